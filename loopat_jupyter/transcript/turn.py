"""The data model of a transcript, and the builder that makes a turn of its events.

The builder knows the names of the API's events and nothing of where they come from: the server
feeds it stored events (with the whole input and result of each tool call added, which the stream of
events leaves out), a notebook those of a running turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from .redaction import Redactor

VERSION = 1
"""Of the JSON document; a reader that knows it may rely on the fields it has."""


@dataclass(frozen=True, slots=True)
class Header:
    """What stands above the turns. ``seq``: the number of the loop's newest event in them."""

    loop_id: str
    title: str
    created_at: str
    archived: bool
    seq: int


@dataclass(slots=True)
class TextPart:
    """The assistant's visible text, or its thinking, up to the next part."""

    type: Literal["text", "thinking"]
    text: str


@dataclass(slots=True)
class ToolPart:
    """A tool call. ``ok`` is ``None`` while it has no result; ``result`` may be truncated.

    ``input`` is a short text where only the event's summary is known.
    """

    tool_use_id: str
    tool: str
    input: Any
    ok: bool | None = None
    result: str = ""
    type: Literal["tool"] = "tool"


@dataclass(slots=True)
class ChoicePart:
    """A permission or question. ``outcome`` and ``source`` are ``None`` while it is pending."""

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
    """One turn: the message, and what followed in its order. Times are RFC 3339 UTC strings."""

    turn_id: str = ""
    status: str = "running"
    created_at: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    engine: str | None = None
    message: str = ""
    parts: list[Part] = field(default_factory=list)
    usage: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None

    @property
    def text(self) -> str:
        """All that the assistant said, without its thinking."""
        return "".join(
            part.text for part in self.parts if isinstance(part, TextPart) and part.type == "text"
        )

    def question_calls(self) -> frozenset[str | None]:
        """The ids of the tool calls that asked a question: the choice says all of it, so the call
        need not be shown too."""
        return frozenset(
            part.tool_use_id
            for part in self.parts
            if isinstance(part, ChoicePart) and part.kind == "question"
        )


class Renderer(Protocol):
    """Writes one document in pieces: head, every turn in order, tail. Used once."""

    media_type: ClassVar[str]

    def head(self, head: Header) -> str: ...
    def turn(self, turn: TranscriptTurn) -> str: ...
    def tail(self) -> str: ...


def build_turn(
    turn: TranscriptTurn, events: Iterable[tuple[str, Mapping[str, Any]]], redactor: Redactor
) -> TranscriptTurn:
    """``turn``, which has all but its parts, completed by the turn's events; all of it redacted."""
    status, usage = turn.status, turn.usage
    turn.message = redactor.redact_text(turn.message)
    builder = TurnBuilder(turn, redactor)
    for name, data in events:
        builder.apply(name, data)
    # The caller's are right: the event of a turn that was cancelled in the queue is "interrupted".
    built = builder.turn
    built.status, built.usage = status, usage
    return built


class TurnBuilder:
    """Makes a :class:`TranscriptTurn` of the events of one turn, as far as they have come."""

    def __init__(
        self, turn: TranscriptTurn | None = None, redactor: Redactor | None = None
    ) -> None:
        self._turn = turn or TranscriptTurn()
        self._redactor = redactor
        self._calls: dict[str, ToolPart] = {}
        self._choices: dict[str, ChoicePart] = {}
        self._deltas: list[str] = []
        """Of the last part. Joined when it is read: a turn has tens of thousands."""

    @property
    def turn(self) -> TranscriptTurn:
        """The turn as it is now; the next event changes the same object."""
        self._join_deltas()
        return self._turn

    def apply(self, name: str, data: Mapping[str, Any]) -> None:
        """Take in the event ``name``. Names that make no part of a transcript are ignored."""
        match name:
            case "started":
                self._turn.message = self._redact(data["content"])
            case "assistant_delta":
                self._add_delta("text", data["text"])
            case "thinking_delta":
                self._add_delta("thinking", data["text"])
            case "tool_call":
                self._add_call(data)
            case "tool_result":
                self._add_result(data)
            case "requires_choice":
                self._add_choice(data)
            case "choice_resolved":
                self._resolve_choice(data)
            case "done":
                self._turn.status, self._turn.usage = "done", data.get("usage")
            case "interrupted":
                self._turn.status = "interrupted"
            case "error":
                self._turn.status = "error"
                message = self._redact(data["message"])
                self._turn.error = {"code": data["code"], "message": message}

    def _redact(self, value: Any) -> Any:
        return value if self._redactor is None else self._redactor.redact_value(value)

    def _add_delta(self, kind: Literal["text", "thinking"], text: str) -> None:
        last = self._turn.parts[-1] if self._turn.parts else None
        if not isinstance(last, TextPart) or last.type != kind:
            self._add_part(TextPart(kind, ""))
        self._deltas.append(text)

    def _join_deltas(self) -> None:
        """Redacts only here: a token may be split between two deltas."""
        if self._deltas:
            part = self._turn.parts[-1]
            assert isinstance(part, TextPart), "deltas are joined before another part is added"
            part.text = self._redact("".join([part.text, *self._deltas]))
            self._deltas.clear()

    def _add_part(self, part: Part) -> None:
        self._join_deltas()
        self._turn.parts.append(part)

    def _add_call(self, data: Mapping[str, Any]) -> None:
        tool_input = data["input"] if "input" in data else data.get("input_summary")
        call = ToolPart(data["tool_use_id"], data["tool"], self._redact(tool_input))
        self._calls[call.tool_use_id] = call
        self._add_part(call)

    def _add_result(self, data: Mapping[str, Any]) -> None:
        call = self._calls.get(data["tool_use_id"])
        if call is not None:
            call.ok, call.result = data["ok"], self._redact(data.get("result", ""))

    def _add_choice(self, data: Mapping[str, Any]) -> None:
        payload = self._redact(data["payload"])
        choice = ChoicePart(data["choice_id"], data.get("tool_use_id"), data["kind"], payload)
        self._choices[choice.choice_id] = choice
        self._add_part(choice)

    def _resolve_choice(self, data: Mapping[str, Any]) -> None:
        choice = self._choices.get(data["choice_id"])
        if choice is not None:
            choice.outcome, choice.source = data["outcome"], data["source"]
            choice.resolved_at = data.get("resolved_at")
            choice.answers = self._redact(data.get("answers"))
            choice.rule = self._redact(data.get("rule"))
