"""Turns as JSON, for programs: everything as it is stored, but for what the redaction removes.

``{"version", "loop_id", "title", "created_at", "archived", "seq", "turns": [{"turn_id", "status",
"created_at", "started_at"|null, "ended_at"|null, "engine"|null, "message", "parts", "usage"|null,
"error"|null}]}``. A part has a ``type``: ``text`` and ``thinking`` (``text``), ``tool``
(``tool_use_id, tool, input, ok|null, result``), ``choice`` (``choice_id, tool_use_id|null, kind,
payload, outcome|null, source|null, resolved_at|null, answers|null, rule|null``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, ClassVar

from .turn import VERSION, ChoicePart, Header, Part, TextPart, ToolPart, TranscriptTurn


class JsonRenderer:
    """The document for programs."""

    media_type: ClassVar[str] = "application/vnd.loopat.transcript+json"

    def __init__(self) -> None:
        self._begun = False

    def head(self, head: Header) -> str:
        return f'{_json({"version": VERSION, **asdict(head)})[:-1]},"turns":['

    def turn(self, turn: TranscriptTurn) -> str:
        comma = "," if self._begun else ""
        self._begun = True
        plain = {f.name: getattr(turn, f.name) for f in fields(turn) if f.name != "parts"}
        parts = ",".join(_json(asdict(part)) for part in turn.parts)
        return f'{comma}\n{_json(plain)[:-1]},"parts":[{parts}]}}'

    def tail(self) -> str:
        return "]}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def parse_turn(data: Mapping[str, Any]) -> TranscriptTurn:
    """One of the document's ``turns``, also of another version of the server: what is missing is
    empty, and a part of an unknown type becomes a tool call of its name."""
    known = {f.name for f in fields(TranscriptTurn)} - {"parts"}
    turn = TranscriptTurn(**{name: data[name] for name in known & data.keys()})
    turn.message = str(turn.message or "")
    turn.parts = [_parse_part(part) for part in data.get("parts") or ()]
    return turn


def _parse_part(part: Mapping[str, Any]) -> Part:
    get = part.get
    match get("type"):
        case "text" | "thinking" as kind:
            return TextPart(kind, str(get("text") or ""))
        case "tool":
            name, result = str(get("tool")), str(get("result") or "")
            return ToolPart(str(get("tool_use_id")), name, get("input"), get("ok"), result)
        case "choice":
            return ChoicePart(
                choice_id=str(get("choice_id")),
                tool_use_id=get("tool_use_id"),
                kind=str(get("kind")),
                payload=get("payload") or {},
                outcome=get("outcome"),
                source=get("source"),
                resolved_at=get("resolved_at"),
                answers=get("answers"),
                rule=get("rule"),
            )
    return ToolPart("", str(get("type")), None)
