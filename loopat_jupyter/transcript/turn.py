"""A turn's story: what was said, done, asked and decided, in the order it happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..loops.transcript_source import StoredTurn
from .redaction import Redactor

VERSION = 1
"""Of the JSON document; a reader that knows it may rely on the fields it has."""


@dataclass(frozen=True, slots=True)
class Header:
    """What stands above the turns. ``seq``: the loop's newest event at that moment."""

    loop_id: str
    title: str
    created_at: str
    archived: bool
    seq: int


@dataclass(slots=True)
class TextPart:
    """The assistant's visible text, or its thinking, up to the next thing that happened."""

    type: Literal["text", "thinking"]
    text: str


@dataclass(slots=True)
class ToolPart:
    """A tool call. ``ok`` is ``None`` while it has no result; ``result`` is capped."""

    tool_use_id: str
    tool: str
    input: Any
    ok: bool | None = None
    result: str = ""
    type: Literal["tool"] = "tool"


@dataclass(slots=True)
class ChoicePart:
    """A choice. ``outcome`` and ``source`` are ``None`` while nobody decided."""

    choice_id: str
    tool_use_id: str | None
    kind: str
    payload: Mapping[str, Any]
    outcome: str | None = None
    source: str | None = None
    resolved_at: str | None = None
    answers: Mapping[str, Any] | None = None
    rule: Mapping[str, Any] | None = None
    type: Literal["choice"] = "choice"


Part = TextPart | ToolPart | ChoicePart


@dataclass(slots=True)
class TranscriptTurn:
    turn_id: str
    status: str
    created_at: str
    started_at: str | None
    ended_at: str | None
    engine: str | None
    message: str
    parts: list[Part] = field(default_factory=list)
    usage: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None


def build_turn(turn: StoredTurn, veil: Redactor) -> TranscriptTurn:
    """The story of ``turn``, without what ``veil`` hides."""
    story = TranscriptTurn(
        turn_id=turn.turn_id,
        status=turn.status,
        created_at=turn.created_at,
        started_at=turn.started_at,
        ended_at=turn.ended_at,
        engine=turn.engine,
        message=veil.redact_text(turn.content),
        usage=turn.usage,
    )
    teller = _TurnBuilder(turn, veil, story)
    for name, data in turn.events:
        teller.apply(name, data)
    return story


class _TurnBuilder:
    def __init__(self, turn: StoredTurn, veil: Redactor, story: TranscriptTurn) -> None:
        self._turn = turn
        self._veil = veil
        self._story = story
        self._calls: dict[str, ToolPart] = {}
        self._choices: dict[str, ChoicePart] = {}

    def apply(self, name: str, data: Mapping[str, Any]) -> None:
        match name:
            case "assistant_delta":
                self._add(TextPart("text", self._veil.redact_text(data["text"])))
            case "thinking_delta":
                self._add(TextPart("thinking", self._veil.redact_text(data["text"])))
            case "tool_call":
                self._call(data)
            case "tool_result":
                self._result(data)
            case "requires_choice":
                self._ask(data)
            case "choice_resolved":
                self._resolve(data)
            case "error":
                self._story.error = {
                    "code": data["code"],
                    "message": self._veil.redact_text(data["message"]),
                }

    def _add(self, part: Part) -> None:
        self._story.parts.append(part)

    def _call(self, data: Mapping[str, Any]) -> None:
        row = self._turn.calls.get(data["tool_use_id"])
        tool_input = row.input if row is not None else data.get("input_summary")
        call = ToolPart(data["tool_use_id"], data["tool"], self._veil.redact_value(tool_input))
        self._calls[call.tool_use_id] = call
        self._add(call)

    def _result(self, data: Mapping[str, Any]) -> None:
        call = self._calls.get(data["tool_use_id"])
        row = self._turn.calls.get(data["tool_use_id"])
        if call is not None:
            call.ok = data["ok"]
            call.result = "" if row is None else self._veil.redact_text(row.result)

    def _ask(self, data: Mapping[str, Any]) -> None:
        row = self._turn.choices.get(data["choice_id"])
        asked = ChoicePart(
            data["choice_id"],
            None if row is None else row.choice.tool_use_id,
            data["kind"],
            self._veil.redact_value(data["payload"]),
        )
        self._choices[asked.choice_id] = asked
        self._add(asked)

    def _resolve(self, data: Mapping[str, Any]) -> None:
        asked = self._choices.get(data["choice_id"])
        if asked is None:
            return
        asked.outcome, asked.source = data["outcome"], data["source"]
        asked.rule = self._veil.redact_value(data.get("rule"))
        row = self._turn.choices.get(data["choice_id"])
        if row is not None:
            asked.resolved_at = row.resolved_at
            answers = (row.choice.answer or {}).get("answers")
            asked.answers = None if answers is None else self._veil.redact_value(answers)
