"""The event table of the document: exactly the contract's events, with exactly their fields."""

from typing import Any

import pytest

from loopat_jupyter.api.openapi import build, read_source
from tests.api.schema import fits_stream_event
from tests.support.invariants import ERROR_CODES, SHAPES
from tests.support.sse import OF_CONNECTION, STORED

EVENTS: dict[str, str] = read_source()["x-events"]
TURN = "turn_00112233445566778899"
PERMISSION = {
    "turn_id": TURN,
    "choice_id": "choice_1",
    "kind": "permission",
    "payload": {"tool": "Bash", "title": "t", "display_name": "d", "input": {"command": "ls"}},
}
SNAPSHOT = {
    "turn_id": TURN,
    "assistant_text_so_far": "",
    "pending_choice_id": "choice_1",
    "choice": PERMISSION,
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build("/loopat/api/v1")


def test_there_is_one_schema_for_each_event_of_the_contract(document: dict[str, Any]) -> None:
    assert set(EVENTS) == STORED | OF_CONNECTION
    lines = document["components"]["schemas"]["StreamEvent"]["oneOf"]
    assert {line["title"] for line in lines if "id" in line["required"]} == STORED
    assert {line["title"] for line in lines if "id" in line["properties"]} == STORED


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_an_event_has_the_contract_s_fields(document: dict[str, Any], name: str) -> None:
    required, optional = SHAPES[name]
    of_turn = {"turn_id"} if name in STORED else set()
    schema = document["components"]["schemas"][EVENTS[name]]
    assert set(schema.get("required", ())) == set(required) | of_turn
    assert set(schema["properties"]) == set(required) | set(optional) | of_turn


def test_an_optional_field_is_absent_and_never_null(document: dict[str, Any]) -> None:
    for component in EVENTS.values():
        schema = document["components"]["schemas"][component]
        for name in set(schema["properties"]) - set(schema.get("required", ())):
            assert "null" not in str(schema["properties"][name]), (component, name)
            assert "default" not in schema["properties"][name], (component, name)


def test_the_error_codes_of_a_turn_are_the_contract_s(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["ErrorEvent"]
    assert set(schema["properties"]["code"]["enum"]) == ERROR_CODES


@pytest.mark.parametrize(
    ("name", "seq", "data", "fits"),
    [
        ("ping", None, {}, True),
        ("pong", None, {}, False),
        ("queued", None, {"position": 1}, True),
        ("queued", None, {"position": 0}, False),
        ("done", None, {"turn_id": TURN}, False),
        ("done", 7, {"turn_id": TURN}, True),
        ("done", 0, {"turn_id": TURN}, False),
        ("done", 7, {"turn_id": TURN, "usage": None}, False),
        ("requires_choice", 7, PERMISSION, True),
        ("requires_choice", 7, {**PERMISSION, "payload": {}}, False),
        ("error", 7, {"turn_id": TURN, "code": "x", "message": ""}, False),
        ("sdk_message", None, {"anything": ["at", "all"]}, True),
        ("snapshot", None, SNAPSHOT, True),
    ],
)
def test_a_stream_event_s_name_decides_its_data(
    document: dict[str, Any], name: str, seq: int | None, data: dict[str, Any], fits: bool
) -> None:
    assert fits_stream_event(document, name, seq, data) == fits


def test_the_streams_refer_to_the_table(document: dict[str, Any]) -> None:
    for path, method in (("messages", "post"), ("events", "get")):
        operation = document["paths"][f"/loops/{{loop_id}}/{path}"][method]
        schema = operation["responses"]["200"]["content"]["text/event-stream"]["schema"]
        assert {"$ref": "#/components/schemas/StreamEvent"} in schema["anyOf"]
