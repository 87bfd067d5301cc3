"""The events of a stream, one frozen dataclass each, and how to make one from its wire form.

``seq`` is the event's number in its loop, ``None`` for events that belong to a connection and
are not stored (``queued``, ``snapshot``, ``ping``, ``sdk_message``). Every stored event has
``turn_id``. An event name this version does not know becomes an :class:`UnknownEvent`, so that
a newer server breaks nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ._errors import UnexpectedResponse
from ._models import Rule, Usage, Wire

__all__ = [
    "AssistantDelta",
    "ChoiceResolved",
    "Done",
    "Event",
    "Interrupted",
    "Option",
    "Ping",
    "Question",
    "Queued",
    "RequiresChoice",
    "SdkMessage",
    "Snapshot",
    "Started",
    "ThinkingDelta",
    "ToolCall",
    "ToolResult",
    "TurnError",
    "UnknownEvent",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events. ``data`` is the event's JSON as it came."""

    name: ClassVar[str] = ""
    terminal: ClassVar[bool] = False

    seq: int | None = None
    turn_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued(Event):
    """The loop is busy; ``position`` 1 is next."""

    name: ClassVar[str] = "queued"
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """The turn begins. ``cold_start``: a sandbox had to be started for it."""

    name: ClassVar[str] = "started"
    cold_start: bool
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantDelta(Event):
    name: ClassVar[str] = "assistant_delta"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingDelta(Event):
    name: ClassVar[str] = "thinking_delta"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall(Event):
    name: ClassVar[str] = "tool_call"
    tool_use_id: str
    tool: str
    input_summary: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult(Event):
    name: ClassVar[str] = "tool_result"
    tool_use_id: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Option:
    label: str
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a choice; an answer outside ``options`` is fine."""

    id: str
    question: str
    options: tuple[Option, ...] = ()
    multi_select: bool = False
    header: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiresChoice(Event):
    """The turn waits for a person: may this tool run, or what is the answer?

    For a permission ``tool``, ``title``, ``input`` and, of a shell command, ``command`` say what
    will run, exactly. For a question see ``questions``.
    """

    name: ClassVar[str] = "requires_choice"
    choice_id: str
    kind: Literal["permission", "question"]
    payload: Mapping[str, Any]

    @property
    def tool(self) -> str:
        return str(self.payload.get("tool", ""))

    @property
    def title(self) -> str:
        return str(self.payload.get("title", ""))

    @property
    def display_name(self) -> str:
        return str(self.payload.get("display_name", self.tool))

    @property
    def input(self) -> Any:
        return self.payload.get("input")

    @property
    def command(self) -> str | None:
        return self.payload.get("command")

    @property
    def reason(self) -> str | None:
        return self.payload.get("reason")

    @property
    def questions(self) -> tuple[Question, ...]:
        return tuple(_question(item) for item in self.payload.get("questions") or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceResolved(Event):
    """Whoever or whatever resolved it. ``rule`` is what was remembered for next time."""

    name: ClassVar[str] = "choice_resolved"
    choice_id: str
    source: str
    outcome: str
    rule: Rule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Event):
    """Where the running turn stands at the moment a watcher joins without a cursor."""

    name: ClassVar[str] = "snapshot"
    assistant_text_so_far: str
    pending_choice_id: str | None = None
    choice: RequiresChoice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Event):
    name: ClassVar[str] = "done"
    terminal: ClassVar[bool] = True
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Event):
    name: ClassVar[str] = "interrupted"
    terminal: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnError(Event):
    name: ClassVar[str] = "error"
    terminal: ClassVar[bool] = True
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Event):
    name: ClassVar[str] = "ping"


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkMessage(Event):
    """The engine's raw message in ``data``. Unstable, only where it was asked for."""

    name: ClassVar[str] = "sdk_message"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent(Event):
    """An event this version does not know; ``event`` is its name, ``data`` its JSON."""

    event: str


def _question(data: Wire) -> Question:
    options = tuple(Option(o["label"], o.get("description")) for o in data.get("options") or ())
    return Question(
        id=data["id"],
        question=data["question"],
        options=options,
        multi_select=bool(data.get("multi_select", False)),
        header=data.get("header"),
    )


def _fields(*names: str) -> Callable[[Wire], dict[str, Any]]:
    return lambda data: {name: data[name] for name in names}


def _tool_call(data: Wire) -> dict[str, Any]:
    summary = data.get("input_summary")
    return {**_fields("tool_use_id", "tool")(data), "input_summary": summary}


def _choice_resolved(data: Wire) -> dict[str, Any]:
    rule = data.get("rule")
    parsed = None if rule is None else Rule.parse(rule)
    return {**_fields("choice_id", "source", "outcome")(data), "rule": parsed}


def _snapshot(data: Wire) -> dict[str, Any]:
    choice = data.get("choice")
    return {
        "assistant_text_so_far": data["assistant_text_so_far"],
        "pending_choice_id": data.get("pending_choice_id"),
        "choice": None if choice is None else _build(RequiresChoice, None, choice),
    }


def _done(data: Wire) -> dict[str, Any]:
    usage = data.get("usage")
    return {"usage": None if usage is None else Usage.parse(usage)}


def _nothing(data: Wire) -> dict[str, Any]:
    return {}


_FIELDS: dict[type[Event], Callable[[Wire], dict[str, Any]]] = {
    Queued: _fields("position"),
    Started: _fields("cold_start", "content"),
    AssistantDelta: _fields("text"),
    ThinkingDelta: _fields("text"),
    ToolCall: _tool_call,
    ToolResult: _fields("tool_use_id", "ok"),
    RequiresChoice: _fields("choice_id", "kind", "payload"),
    ChoiceResolved: _choice_resolved,
    Snapshot: _snapshot,
    Done: _done,
    Interrupted: _nothing,
    TurnError: _fields("code", "message"),
    Ping: _nothing,
    SdkMessage: _nothing,
}
_BY_NAME = {cls.name: cls for cls in _FIELDS}
_OF_CONNECTION = {Queued, Snapshot, Ping, SdkMessage}


def _build(cls: type[Event], seq: int | None, data: Wire) -> Any:
    return cls(seq=seq, turn_id=data.get("turn_id"), data=data, **_FIELDS[cls](data))


def decode_event(name: str, data: str, event_id: str) -> Event:
    """One event from its wire form.

    ``event_id`` is the last ``id`` the connection has seen, as SSE defines it: it says nothing
    about events that belong to the connection, so those get no ``seq``.

    Raises:
        UnexpectedResponse: the data is not what the contract says.
    """
    try:
        body = json.loads(data) if data else {}
        cls = _BY_NAME.get(name)
        stored = cls not in _OF_CONNECTION if cls else "turn_id" in body
        seq = int(event_id) if stored else None
        if cls is None:
            return UnknownEvent(seq=seq, turn_id=body.get("turn_id"), data=body, event=name)
        event: Event = _build(cls, seq, body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnexpectedResponse(f"the server sent an unreadable {name!r} event") from error
    return event
