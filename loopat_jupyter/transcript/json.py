"""The story as JSON, for programs: everything as it is stored, but for what the veil hides.

``{"version", "loop_id", "title", "created_at", "archived", "seq", "turns": [{"turn_id", "status",
"created_at", "started_at"|null, "ended_at"|null, "engine"|null, "message", "parts", "usage"|null,
"error"|null}]}``. A part has a ``type``: ``text`` and ``thinking`` (``text``), ``tool``
(``tool_use_id, tool, input, ok|null, result``), ``choice`` (``choice_id, tool_use_id|null, kind,
payload, outcome|null, source|null, resolved_at|null, answers|null, rule|null``).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from .turn import VERSION, Header, TranscriptTurn

MEDIA_TYPE = "application/vnd.loopat.transcript+json"


class JsonRenderer:
    def __init__(self) -> None:
        self._begun = False

    def head(self, head: Header) -> str:
        return f'{_json({"version": VERSION, **asdict(head)})[:-1]},"turns":['

    def turn(self, story: TranscriptTurn) -> str:
        comma = "," if self._begun else ""
        self._begun = True
        fields = {name: getattr(story, name) for name in story.__slots__ if name != "parts"}
        parts = ",".join(_json(asdict(part)) for part in story.parts)
        return f'{comma}\n{_json(fields)[:-1]},"parts":[{parts}]}}'

    def tail(self) -> str:
        return "]}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
