"""The output itself: Markdown for people, a small record for the cell's next run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

STORY_MIME = "application/vnd.loopat.transcript+json"
VERSION = 1

_LOOP_ID = re.compile(r"loop_[0-9a-f-]{36}")


@dataclass(frozen=True, slots=True)
class StoryRecord:
    """Which loop an output tells of, and the sequence number of its newest event in it."""

    loop_id: str
    seq: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, "loop_id": self.loop_id, "seq": self.seq}

    @classmethod
    def parse(cls, data: Any) -> Self | None:
        """The record in an output's data, or ``None``: files are written by anybody."""
        if not isinstance(data, Mapping):
            return None
        loop_id, seq = data.get("loop_id"), data.get("seq")
        if not isinstance(loop_id, str) or not _LOOP_ID.fullmatch(loop_id):
            return None
        known = isinstance(seq, int) and not isinstance(seq, bool)
        return cls(loop_id, seq if known else None)


def bundle(markdown: str, record: StoryRecord | None, plain: str | None = None) -> dict[str, Any]:
    """The MIME bundle of an output: ``plain`` is for consoles, by default the Markdown."""
    data: dict[str, Any] = {"text/plain": markdown if plain is None else plain}
    data["text/markdown"] = markdown
    if record is not None:
        data[STORY_MIME] = record.to_json()
    return data
