"""The output itself: Markdown for people, a small record for the cell's next run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

TRANSCRIPT_MIME = "application/vnd.loopat.transcript+json"
VERSION = 1

_LOOP_ID = re.compile(r"loop_[0-9a-f-]{36}")


@dataclass(frozen=True, slots=True)
class TranscriptRecord:
    """The loop that an output shows, and the sequence number of the newest event shown of it."""

    loop_id: str
    seq: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, "loop_id": self.loop_id, "seq": self.seq}

    @classmethod
    def parse(cls, data: Any) -> Self | None:
        """The record in an output's data, or ``None``: anybody may have written the file."""
        if not isinstance(data, Mapping):
            return None
        loop_id, seq = data.get("loop_id"), data.get("seq")
        if not isinstance(loop_id, str) or not _LOOP_ID.fullmatch(loop_id):
            return None
        is_number = isinstance(seq, int) and not isinstance(seq, bool)
        return cls(loop_id, seq if is_number else None)


def bundle(
    markdown: str, record: TranscriptRecord | None, plain: str | None = None
) -> dict[str, Any]:
    """The MIME bundle of an output. ``plain`` is for consoles; by default it is the Markdown."""
    data: dict[str, Any] = {"text/plain": markdown if plain is None else plain}
    data["text/markdown"] = markdown
    if record is not None:
        data[TRANSCRIPT_MIME] = record.to_json()
    return data
