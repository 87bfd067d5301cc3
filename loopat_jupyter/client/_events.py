"""The events of a stream, one frozen dataclass each.

``seq`` is the event's number in its loop, ``None`` for events that belong to a connection and
are not stored (``queued``, ``snapshot``, ``ping``, ``sdk_message``). Every stored event has
``turn_id``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ._models import JsonObject, Rule, Usage

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
    """Base of all events. ``data`` is the event's JSON, unchanged."""

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
    """The turn waits for a person to give a permission or to answer questions.

    For a permission ``tool``, ``title``, ``input`` and, of a shell command, ``command`` are
    exactly what will run. For a question see ``questions``.
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
    """The choice is resolved, by ``source``. ``rule`` is the permission that was remembered."""

    name: ClassVar[str] = "choice_resolved"
    choice_id: str
    source: str
    outcome: str
    rule: Rule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Event):
    """The state of the running turn when a stream without a cursor connects."""

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
    """The engine's raw message in ``data``. Its form may change; sent only on request."""

    name: ClassVar[str] = "sdk_message"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownEvent(Event):
    """An event this version does not know; ``event`` is its name, ``data`` its JSON."""

    event: str


def _question(data: JsonObject) -> Question:
    options = tuple(Option(o["label"], o.get("description")) for o in data.get("options") or ())
    return Question(
        id=data["id"],
        question=data["question"],
        options=options,
        multi_select=bool(data.get("multi_select", False)),
        header=data.get("header"),
    )
