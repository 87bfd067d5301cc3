"""Decodes server-sent events into the classes of ``_events``.

An event name that this version does not know becomes an ``UnknownEvent``, and unknown fields are
ignored, so that a newer server breaks nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ._errors import UnexpectedResponse
from ._events import (
    AssistantDelta,
    ChoiceResolved,
    Done,
    Event,
    Interrupted,
    Ping,
    Queued,
    RequiresChoice,
    SdkMessage,
    Snapshot,
    Started,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    TurnError,
    UnknownEvent,
)
from ._models import JsonObject, Rule, Usage


def _fields(*names: str) -> Callable[[JsonObject], dict[str, Any]]:
    return lambda data: {name: data[name] for name in names}


def _tool_call(data: JsonObject) -> dict[str, Any]:
    summary = data.get("input_summary")
    return {**_fields("tool_use_id", "tool")(data), "input_summary": summary}


def _choice_resolved(data: JsonObject) -> dict[str, Any]:
    rule = data.get("rule")
    parsed = None if rule is None else Rule.parse(rule)
    return {**_fields("choice_id", "source", "outcome")(data), "rule": parsed}


def _snapshot(data: JsonObject) -> dict[str, Any]:
    choice = data.get("choice")
    return {
        "assistant_text_so_far": data["assistant_text_so_far"],
        "pending_choice_id": data.get("pending_choice_id"),
        "choice": None if choice is None else _build(RequiresChoice, None, choice),
    }


def _done(data: JsonObject) -> dict[str, Any]:
    usage = data.get("usage")
    return {"usage": None if usage is None else Usage.parse(usage)}


def _no_fields(data: JsonObject) -> dict[str, Any]:
    return {}


_FIELDS: dict[type[Event], Callable[[JsonObject], dict[str, Any]]] = {
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
    Interrupted: _no_fields,
    TurnError: _fields("code", "message"),
    Ping: _no_fields,
    SdkMessage: _no_fields,
}
_BY_NAME = {cls.name: cls for cls in _FIELDS}
_NOT_STORED = {Queued, Snapshot, Ping, SdkMessage}


def _build(cls: type[Event], seq: int | None, data: JsonObject) -> Any:
    return cls(seq=seq, turn_id=data.get("turn_id"), data=data, **_FIELDS[cls](data))


def decode_event(name: str, data: str, event_id: str) -> Event:
    """One event from the fields of a server-sent event.

    ``event_id`` is the last ``id`` that the connection received: SSE repeats it for events that
    have none. So events that belong to the connection get no ``seq`` from it.

    Raises:
        UnexpectedResponse: the data is not what the API specifies.
    """
    try:
        body = json.loads(data) if data else {}
        cls = _BY_NAME.get(name)
        stored = cls not in _NOT_STORED if cls else "turn_id" in body
        seq = int(event_id) if stored else None
        if cls is None:
            return UnknownEvent(seq=seq, turn_id=body.get("turn_id"), data=body, event=name)
        event: Event = _build(cls, seq, body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnexpectedResponse(f"the server sent an unreadable {name!r} event") from error
    return event
