"""What is true of every event stream, whatever the test that captured it is about.

:func:`check_stream` holds for one connection, :func:`check_log` for a loop's whole stored log,
:func:`check_history` ties the log to ``GET /loops/{id}/messages``. All raise ``AssertionError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .sse import Event, EventStream

USAGE = {"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"}

# event -> (required fields, optional fields), besides turn_id
SHAPES: dict[str, tuple[dict[str, type], dict[str, type]]] = {
    "queued": ({"position": int}, {}),
    "started": ({"cold_start": bool, "content": str}, {}),
    "assistant_delta": ({"text": str}, {}),
    "thinking_delta": ({"text": str}, {}),
    "tool_call": ({"tool_use_id": str, "tool": str}, {"input_summary": str}),
    "tool_result": ({"tool_use_id": str, "ok": bool}, {}),
    "requires_choice": ({"choice_id": str, "kind": str, "payload": dict}, {}),
    "choice_resolved": ({"choice_id": str, "source": str, "outcome": str}, {"rule": dict}),
    "done": ({}, {"usage": dict}),
    "interrupted": ({}, {}),
    "error": ({"code": str, "message": str}, {}),
    "ping": ({}, {}),
}
PERMISSION = ({"tool", "title", "display_name", "input"}, {"command", "reason"})
QUESTION = ({"id", "question", "options", "multi_select"}, {"header"})
OPTION = ({"label"}, {"description"})
ERROR_CODES = {
    "agent_error",
    "send_failed",
    "sandbox_spawn_failed",
    "sandbox_evicted",
    "server_restarted",
    "budget_exceeded",
}


def _keys(value: dict[str, Any], required: Iterable[str], optional: Iterable[str]) -> None:
    missing, extra = set(required) - set(value), set(value) - set(required) - set(optional)
    assert not missing, f"missing {missing} in {value}"
    assert not extra, f"unexpected {extra} in {value}"


def _no_nulls(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "input" or (key == "prefix" and item is None):
                continue
            _no_nulls(item, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            _no_nulls(item, f"{where}[]")
    else:
        assert value is not None, f"{where} is null; an optional field is absent"


def check_event(event: Event) -> None:
    """The event's own shape: fields, types, no nulls."""
    if event.name == "sdk_message":
        return
    if event.name == "snapshot":
        _check_snapshot(event.data)
        return
    required, optional = SHAPES[event.name]
    of_turn = {"turn_id"} if event.seq is not None else set()
    _keys(event.data, set(required) | of_turn, optional)
    for field, kind in {**required, **optional}.items():
        if field in event.data:
            assert type(event.data[field]) is kind, f"{event.name}.{field}: {event.data[field]!r}"
    _no_nulls(event.data, event.name)
    if event.seq is not None:
        assert event.data["turn_id"].startswith("turn_"), event
    if event.name in {"assistant_delta", "thinking_delta"}:
        assert event.data["text"], "an empty delta says nothing"
    if event.name == "tool_call":
        assert len(event.data.get("input_summary", "")) <= 200, event
    if event.name == "requires_choice":
        _check_choice(event.data)
    if event.name == "choice_resolved":
        assert event.data["source"] in {"api", "web", "policy"}, event
        assert event.data["outcome"] in {"allowed", "denied", "answered", "cancelled"}, event
        if "rule" in event.data:
            _keys(event.data["rule"], {"rule_id", "tool", "prefix", "scope"}, ())
    if event.name == "error":
        assert event.data["code"] in ERROR_CODES, event
    if event.name == "done" and "usage" in event.data:
        _keys(event.data["usage"], USAGE, {"cost_usd"})
    if event.name == "queued":
        assert event.data["position"] >= 1, event


def _check_snapshot(data: dict[str, Any]) -> None:
    _keys(data, {"turn_id", "assistant_text_so_far", "pending_choice_id"}, {"choice"})
    assert isinstance(data["assistant_text_so_far"], str)
    assert ("choice" in data) == (data["pending_choice_id"] is not None), data
    if "choice" in data:
        assert data["choice"]["choice_id"] == data["pending_choice_id"], data
        _keys(data["choice"], {"choice_id", "kind", "payload", "turn_id"}, ())
        _check_choice(data["choice"])
        _no_nulls(data["choice"], "snapshot.choice")


def _check_choice(data: dict[str, Any]) -> None:
    assert data["choice_id"].startswith("choice_"), data
    payload = data["payload"]
    if data["kind"] == "permission":
        _keys(payload, *PERMISSION)
        assert isinstance(payload["input"], dict), payload
        return
    assert data["kind"] == "question", data
    _keys(payload, {"questions"}, ())
    assert payload["questions"], "a question choice without a question"
    ids = [q["id"] for q in payload["questions"]]
    assert len(set(ids)) == len(ids), f"question ids are not unique: {ids}"
    for question in payload["questions"]:
        _keys(question, *QUESTION)
        for option in question["options"]:
            _keys(option, *OPTION)


def check_stream(stream: EventStream) -> None:
    """One connection: order of numbers, own turn only, the right first and last event."""
    for event in stream.events:
        check_event(event)
    if stream.kind == "post":
        _check_post_stream(stream)
    else:
        _check_events_stream(stream)


def _check_post_stream(stream: EventStream) -> None:
    content, stored = stream.content, stream.stored
    seqs = [e.seq for e in stored]
    assert seqs == sorted(set(seqs)), f"numbers do not increase: {seqs}"  # type: ignore[type-var]
    assert len({e.data["turn_id"] for e in stored}) <= 1, "a POST stream shows its own turn only"
    names = [e.name for e in content if e.name != "sdk_message"]
    assert "snapshot" not in names, names
    assert "queued" not in names[1:], f"queued is the first event, once: {names}"
    if stored:
        check_turn(stored, complete=stream.ended and not stream.may_be_cut)
    if stream.ended and not stream.may_be_cut:
        assert stored, f"the stream ended without any stored event: {names}"


def _check_events_stream(stream: EventStream) -> None:
    seqs = [e.seq for e in stream.stored if e.seq is not None]
    if seqs:
        first = seqs[0] if stream.after_seq is None else stream.after_seq + 1
        assert seqs == list(range(first, first + len(seqs))), f"a gap or a duplicate: {seqs}"
    names = stream.names
    assert "queued" not in names, names
    assert "snapshot" not in names[1:], f"snapshot comes first, once: {names}"
    if stream.after_seq is not None:
        assert "snapshot" not in names, "no snapshot for a reader with a cursor"


def check_turn(events: Sequence[Event], *, complete: bool) -> None:
    """One turn's stored events, in order. ``complete``: up to its terminal event."""
    names = [e.name for e in events]
    if names == ["interrupted"]:
        return  # a queued turn that was cancelled before it began
    assert names[0] == "started", f"a turn begins with started: {names}"
    assert names.count("started") == 1, names
    assert not any(e.terminal for e in events[:-1]), f"something after the terminal event: {names}"
    open_calls: set[str] = set()
    seen_calls: set[str] = set()
    open_choices: dict[str, str] = {}
    seen_choices: set[str] = set()
    for event in events:
        data = event.data
        if event.name == "tool_call":
            assert data["tool_use_id"] not in seen_calls, f"called twice: {data}"
            seen_calls.add(data["tool_use_id"])
            open_calls.add(data["tool_use_id"])
        elif event.name == "tool_result":
            assert data["tool_use_id"] in open_calls, f"a result without its call: {data}"
            open_calls.remove(data["tool_use_id"])
        elif event.name == "requires_choice":
            assert data["choice_id"] not in seen_choices, f"required twice: {data}"
            seen_choices.add(data["choice_id"])
            open_choices[data["choice_id"]] = data["kind"]
        elif event.name == "choice_resolved":
            kind = open_choices.pop(data["choice_id"], None)
            assert kind is not None, f"resolved without requires_choice, or twice: {data}"
            fitting = {"permission": {"allowed", "denied"}, "question": {"answered"}}[kind]
            assert data["outcome"] in fitting | {"cancelled"}, (kind, data)
    if complete:
        assert events[-1].terminal, f"no terminal event: {names}"
    if events[-1].terminal:
        assert not open_calls, f"no tool_result for {open_calls}"
        assert not open_choices, f"no choice_resolved for {open_choices}"


def by_turn(log: Sequence[Event]) -> dict[str, list[Event]]:
    turns: dict[str, list[Event]] = {}
    for event in log:
        turns.setdefault(event.data["turn_id"], []).append(event)
    return turns


def check_log(log: Sequence[Event], *, complete: bool = True) -> None:
    """A loop's whole log, read with ``after_seq=0``: gap-free, one turn at a time."""
    assert [e.seq for e in log] == list(range(1, len(log) + 1)), [e.seq for e in log]
    for event in log:
        check_event(event)
    turns = by_turn(log)
    running: str | None = None
    for event in log:
        turn_id = event.data["turn_id"]
        if event.name == "started":
            assert running is None, f"{turn_id} started while {running} was running"
            running = turn_id
        elif len(turns[turn_id]) > 1:
            assert running == turn_id, f"{event} of a turn that is not running"
        if event.terminal and running == turn_id:
            running = None
    last = log[-1].data["turn_id"] if log else None
    for turn_id, events in turns.items():
        check_turn(events, complete=complete or turn_id != last)


def check_against_log(stream: EventStream, log: Sequence[Event]) -> None:
    """What a connection showed is what was stored, to the letter, and nothing was left out."""
    stored = {e.seq: e for e in log}
    for event in stream.stored:
        assert stored.get(event.seq) == event, f"shown {event}, stored {stored.get(event.seq)}"
    if stream.kind == "post" and stream.stored:
        turn_id = stream.stored[0].data["turn_id"]
        whole = [e for e in log if e.data["turn_id"] == turn_id]
        assert stream.stored == whole[: len(stream.stored)], "a POST stream left events out"


def check_history(rows: Sequence[dict[str, Any]], log: Sequence[Event]) -> None:
    """The conversation says the same as the events it was made from."""
    rows_of: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        _keys(
            row,
            {"id", "turn_id", "role", "content", "created_at", "status", "tool_calls", "usage"},
            (),
        )
        roles = rows_of.setdefault(row["turn_id"], {})
        assert row["role"] not in roles, f"two {row['role']} rows of one turn"
        roles[row["role"]] = row
    for turn_id, events in by_turn(log).items():
        roles = rows_of[turn_id]
        last = events[-1]
        began = events[0].name == "started"
        assert ("assistant" in roles) == began, f"assistant row: {roles.keys()}, began: {began}"
        if began:
            assert roles["user"]["content"] == events[0].data["content"]
            text = "".join(e.data["text"] for e in events if e.name == "assistant_delta")
            assert roles["assistant"]["content"] == text
            _check_tool_calls(roles["assistant"]["tool_calls"], events)
        if last.terminal:
            status = last.name if began else "cancelled"
            assert {row["status"] for row in roles.values()} == {status}, (status, roles)
        if last.name == "done":
            assert roles["assistant"]["usage"] == last.data.get("usage")


def _check_tool_calls(calls: Sequence[dict[str, Any]], events: Sequence[Event]) -> None:
    for call in calls:
        _keys(call, {"tool_use_id", "tool", "input", "ok", "result"}, ())
    called = [(e.data["tool_use_id"], e.data["tool"]) for e in events if e.name == "tool_call"]
    assert [(c["tool_use_id"], c["tool"]) for c in calls] == called
    results = {e.data["tool_use_id"]: e.data["ok"] for e in events if e.name == "tool_result"}
    assert {c["tool_use_id"]: c["ok"] for c in calls if c["ok"] is not None} == results
