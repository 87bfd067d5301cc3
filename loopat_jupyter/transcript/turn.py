"""A turn's story: what was said, done, asked and decided, in the order it happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..loops.transcript_source import StoredTurn
from .redaction import Veil

VERSION = 1
"""Of the JSON document; a reader that knows it may rely on the fields it has."""


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above the turns. ``seq``: the loop's newest event at that moment."""

    loop_id: str
    title: str
    created_at: str
    archived: bool
    seq: int


@dataclass(slots=True)
class Said:
    """The assistant's visible text, or its thinking, up to the next thing that happened."""

    type: Literal["text", "thinking"]
    text: str


@dataclass(slots=True)
class Done:
    """A tool call. ``ok`` is ``None`` while it has no result; ``result`` is capped."""

    tool_use_id: str
    tool: str
    input: Any
    ok: bool | None = None
    result: str = ""
    type: Literal["tool"] = "tool"


@dataclass(slots=True)
class Asked:
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


Part = Said | Done | Asked


@dataclass(slots=True)
class TurnStory:
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


def tell(turn: StoredTurn, veil: Veil) -> TurnStory:
    """The story of ``turn``, without what ``veil`` hides."""
    story = TurnStory(
        turn_id=turn.turn_id,
        status=turn.status,
        created_at=turn.created_at,
        started_at=turn.started_at,
        ended_at=turn.ended_at,
        engine=turn.engine,
        message=veil.text(turn.content),
        usage=turn.usage,
    )
    teller = _Teller(turn, veil, story)
    for name, data in turn.events:
        teller.hear(name, data)
    return story


class _Teller:
    def __init__(self, turn: StoredTurn, veil: Veil, story: TurnStory) -> None:
        self._turn = turn
        self._veil = veil
        self._story = story
        self._calls: dict[str, Done] = {}
        self._choices: dict[str, Asked] = {}

    def hear(self, name: str, data: Mapping[str, Any]) -> None:
        match name:
            case "assistant_delta":
                self._add(Said("text", self._veil.text(data["text"])))
            case "thinking_delta":
                self._add(Said("thinking", self._veil.text(data["text"])))
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
                    "message": self._veil.text(data["message"]),
                }

    def _add(self, part: Part) -> None:
        self._story.parts.append(part)

    def _call(self, data: Mapping[str, Any]) -> None:
        row = self._turn.calls.get(data["tool_use_id"])
        tool_input = row.input if row is not None else data.get("input_summary")
        call = Done(data["tool_use_id"], data["tool"], self._veil.value(tool_input))
        self._calls[call.tool_use_id] = call
        self._add(call)

    def _result(self, data: Mapping[str, Any]) -> None:
        call = self._calls.get(data["tool_use_id"])
        row = self._turn.calls.get(data["tool_use_id"])
        if call is not None:
            call.ok = data["ok"]
            call.result = "" if row is None else self._veil.text(row.result)

    def _ask(self, data: Mapping[str, Any]) -> None:
        row = self._turn.choices.get(data["choice_id"])
        asked = Asked(
            data["choice_id"],
            None if row is None else row.choice.tool_use_id,
            data["kind"],
            self._veil.value(data["payload"]),
        )
        self._choices[asked.choice_id] = asked
        self._add(asked)

    def _resolve(self, data: Mapping[str, Any]) -> None:
        asked = self._choices.get(data["choice_id"])
        if asked is None:
            return
        asked.outcome, asked.source = data["outcome"], data["source"]
        asked.rule = self._veil.value(data.get("rule"))
        row = self._turn.choices.get(data["choice_id"])
        if row is not None:
            asked.resolved_at = row.resolved_at
            answers = (row.choice.answer or {}).get("answers")
            asked.answers = None if answers is None else self._veil.value(answers)
