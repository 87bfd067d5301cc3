"""The contract's event table as schemas: what the ``data`` of each event of a stream holds.

They describe; nothing is validated with them at run time. A field whose type names
:data:`Absent` is left out where there is nothing to say: it is never ``null``. A field that can be
``null`` says so with ``None``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from ..loops.turn_context import SUMMARY_LIMIT
from .schemas import UsageView

Absent = SkipJsonSchema[None]

ErrorCode = Literal[
    "agent_error",
    "send_failed",
    "sandbox_spawn_failed",
    "sandbox_evicted",
    "server_restarted",
    "budget_exceeded",
]


class ConnectionEvent(BaseModel):
    """Base of the events that belong to a connection: no ``id`` line, not stored."""


class StoredEvent(BaseModel):
    """Base of the events that are stored, and sent with their sequence number as ``id``."""

    turn_id: str = Field(pattern="^turn_[0-9a-f]{20}$")


# --------------------------------------------------------------------------- a turn's life


class QueuedEvent(ConnectionEvent):
    """The loop is busy; this message waits. Sent once, at the begin of a POST's stream."""

    position: int = Field(ge=1, description="1 is next.")


class StartedEvent(StoredEvent):
    """The turn begins."""

    cold_start: bool = Field(description="True exactly when this turn had to start a sandbox.")
    content: str = Field(description="The user's message.")


class DoneEvent(StoredEvent):
    """The turn came to its end. Terminal."""

    usage: UsageView | Absent = Field(default=None, description="The turn's sums, where known.")


class InterruptedEvent(StoredEvent):
    """The turn was interrupted, or cancelled before it began. Terminal."""


class ErrorEvent(StoredEvent):
    """The turn failed. Terminal."""

    code: ErrorCode
    message: str = Field(description="What happened and what to do next, for people.")


# --------------------------------------------------------------------------- what the agent does


class AssistantDeltaEvent(StoredEvent):
    """More of the assistant's visible text; joined, a turn's deltas are the whole of it."""

    text: str = Field(min_length=1)


class ThinkingDeltaEvent(StoredEvent):
    """More of what the model thinks aloud."""

    text: str = Field(min_length=1)


class ToolCallEvent(StoredEvent):
    """The agent calls a tool. Exactly one `tool_result` follows before the terminal event."""

    tool_use_id: str
    tool: str
    input_summary: str | Absent = Field(
        default=None,
        max_length=SUMMARY_LIMIT,
        description="The first of `command`, `file_path`, `path`, `query`, `url` in the input.",
    )


class ToolResultEvent(StoredEvent):
    """The end of a tool call. A failing tool is `ok: false` and not the end of the turn."""

    tool_use_id: str
    ok: bool


# --------------------------------------------------------------------------- choices


class PermissionPayload(BaseModel):
    """What the agent asks to run; allowed, it runs with exactly this input."""

    tool: str
    title: str
    display_name: str
    input: dict[str, Any]
    command: str | Absent = Field(default=None, description="The command line, of a shell tool.")
    reason: str | Absent = Field(default=None, description="Why it has to be asked.")


class QuestionOptionView(BaseModel):
    label: str
    description: str | Absent = None


class QuestionView(BaseModel):
    """One question; an answer outside the options is fine."""

    id: str
    question: str
    header: str | Absent = None
    options: list[QuestionOptionView]
    multi_select: bool = Field(description="Whether the answer may be a list of strings.")


class QuestionPayload(BaseModel):
    """Questions of the agent; all are answered at once."""

    questions: list[QuestionView] = Field(min_length=1)


class RequiresChoiceEvent(StoredEvent):
    """The agent waits for a person. Exactly one `choice_resolved` follows."""

    choice_id: str
    kind: Literal["permission", "question"]
    payload: PermissionPayload | QuestionPayload


class RememberedRuleView(BaseModel):
    """What an answer with `"remember": "loop"` allows from now on."""

    rule_id: str
    tool: str
    prefix: str | None = Field(description="Of a Bash rule: program and subcommand.")
    scope: Literal["loop"]


class ChoiceResolvedEvent(StoredEvent):
    """A choice is settled: `api` by an API token, `web` by a Jupyter session, `policy` by the
    server itself (interrupt, archive, eviction)."""

    choice_id: str
    source: Literal["api", "web", "policy"]
    outcome: Literal["allowed", "denied", "answered", "cancelled"]
    rule: RememberedRuleView | Absent = None


# --------------------------------------------------------------------------- of a connection


class SnapshotEvent(ConnectionEvent):
    """Where the running turn is, for a watcher that came without a cursor."""

    turn_id: str = Field(pattern="^turn_[0-9a-f]{20}$")
    assistant_text_so_far: str
    pending_choice_id: str | None
    choice: RequiresChoiceEvent | Absent = Field(
        default=None, description="The pending choice, whole; absent when there is none."
    )


class PingEvent(ConnectionEvent):
    """The connection is alive."""


class SdkMessageEvent(ConnectionEvent):
    """The engine's raw message, as it came; unstable. Only with `?include=sdk_message`."""

    model_config = {"extra": "allow"}


EVENTS: dict[str, type[ConnectionEvent | StoredEvent]] = {
    "queued": QueuedEvent,
    "started": StartedEvent,
    "snapshot": SnapshotEvent,
    "assistant_delta": AssistantDeltaEvent,
    "thinking_delta": ThinkingDeltaEvent,
    "tool_call": ToolCallEvent,
    "tool_result": ToolResultEvent,
    "requires_choice": RequiresChoiceEvent,
    "choice_resolved": ChoiceResolvedEvent,
    "done": DoneEvent,
    "interrupted": InterruptedEvent,
    "error": ErrorEvent,
    "ping": PingEvent,
    "sdk_message": SdkMessageEvent,
}
"""Name on the ``event:`` line -> the shape of the ``data:`` line."""

STREAM_EVENT = "StreamEvent"


def stream_event(reference: str) -> dict[str, Any]:
    """The schema of one event as an SSE reader gives it: its three lines, the name deciding what
    the JSON in the ``data`` line is. The form is that of OpenAPI 3.2 for such streams.

    ``reference`` is where components are, with ``{model}`` for the name.
    """
    return {
        "title": STREAM_EVENT,
        "description": "One event of a stream: its `id:`, `event:` and `data:` lines. The name "
        "decides which schema the JSON in `data` has; ignore names you do not know.",
        "oneOf": [_lines(name, model, reference) for name, model in EVENTS.items()],
    }


def _lines(name: str, model: type[ConnectionEvent | StoredEvent], reference: str) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "event": {"const": name},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": reference.format(model=model.__name__)},
        },
    }
    if issubclass(model, StoredEvent):
        properties["id"] = {
            "type": "string",
            "pattern": "^[1-9][0-9]*$",
            "description": "The sequence number: without gaps in a loop.",
        }
    return {
        "title": name,
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
    }
