"""The checks that every captured stream goes through do find what they are there to find."""

from typing import Any

import pytest

from tests.support import invariants
from tests.support.sse import Event, WireError, parse_frame

TURN = "turn_00000000000000000000"


def log(*events: tuple[str, dict[str, Any]]) -> list[Event]:
    """A loop's log of one turn."""
    return [Event(n, name, {"turn_id": TURN, **data}) for n, (name, data) in enumerate(events, 1)]


STARTED = ("started", {"cold_start": False, "content": "hi"})
CALL = ("tool_call", {"tool_use_id": "a", "tool": "Bash"})
RESULT = ("tool_result", {"tool_use_id": "a", "ok": True})
PERMISSION = {"tool": "Bash", "title": "t", "display_name": "d", "input": {}}
ASKED = (
    "requires_choice",
    {"choice_id": "choice_a", "kind": "permission", "payload": PERMISSION},
)
RESOLVED = ("choice_resolved", {"choice_id": "choice_a", "source": "api", "outcome": "allowed"})
DONE = ("done", {})


def test_a_right_log_passes() -> None:
    invariants.check_log(log(STARTED, CALL, ASKED, RESOLVED, RESULT, DONE))
    invariants.check_log(log(("interrupted", {})))
    invariants.check_log([])


@pytest.mark.parametrize(
    "events",
    [
        [STARTED],
        [DONE],
        [STARTED, STARTED, DONE],
        [STARTED, DONE, DONE],
        [STARTED, DONE, ("assistant_delta", {"text": "late"})],
        [STARTED, CALL, DONE],
        [STARTED, RESULT, DONE],
        [STARTED, CALL, RESULT, RESULT, DONE],
        [STARTED, CALL, CALL, RESULT, DONE],
        [STARTED, ASKED, DONE],
        [STARTED, RESOLVED, DONE],
        [STARTED, ASKED, RESOLVED, RESOLVED, DONE],
        [STARTED, ("assistant_delta", {"text": ""}), DONE],
        [STARTED, ("assistant_delta", {"text": None}), DONE],
        [STARTED, ("tool_call", {**CALL[1], "input_summary": None}), RESULT, DONE],
        [STARTED, ("error", {"code": "other", "message": "m"})],
        [STARTED, ("done", {"usage": None})],
        [STARTED, ("done", {"surprise": 1})],
        [("started", {"content": "no cold_start"}), DONE],
    ],
)
def test_a_wrong_log_is_found(events: list[tuple[str, dict[str, Any]]]) -> None:
    with pytest.raises(AssertionError):
        invariants.check_log(log(*events))


def test_a_gap_and_a_duplicate_are_found() -> None:
    right = log(STARTED, CALL, RESULT, DONE)
    for wrong in ([*right[:1], *right[2:]], [*right[:2], *right[1:]], right[1:]):
        with pytest.raises(AssertionError):
            invariants.check_log(wrong)


def test_two_turns_at_once_are_found() -> None:
    first, second = {"turn_id": "turn_1"}, {"turn_id": "turn_2"}
    begin = {"cold_start": False, "content": "hi"}
    mixed = [
        Event(1, "started", first | begin),
        Event(2, "started", second | begin),
        Event(3, "done", first),
        Event(4, "done", second),
    ]
    with pytest.raises(AssertionError):
        invariants.check_log(mixed)


@pytest.mark.parametrize(
    "frame",
    [
        b"event: done\ndata: {}",
        b"id: 1\nevent: ping\ndata: {}",
        b"id: 0\nevent: done\ndata: {}",
        b"id: x\nevent: done\ndata: {}",
        b"id: 1\ndata: {}\nevent: done",
        b"id: 1\nevent: done\ndata: {}\ndata: {}",
        b"id: 1\nevent: done\ndata:{}",
        b"id: 1\nevent: done\ndata: []",
        b"id: 1\nevent: other\ndata: {}",
        b": comment\nid: 1\nevent: done\ndata: {}",
        b'id: 1\nevent: done\ndata: {"a": 1}\r',
    ],
)
def test_another_wire_form_is_found(frame: bytes) -> None:
    with pytest.raises(WireError):
        parse_frame(frame)
