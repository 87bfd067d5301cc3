"""Forms: what an agent wants to know becomes questions, and the answers its form's content."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.acp.elicitation import MAX_OPTIONS, MAX_QUESTIONS, parse_form
from loopat_jupyter.engines.acp.engine import AcpEngine

from .conftest import Host, configure, scripted, steps
from .test_turns import call

COLOR = {
    "type": "string",
    "title": "Color",
    "description": "Which color?",
    "oneOf": [
        {"const": "r", "title": "Red", "description": "like fire"},
        {"const": "b", "title": "Blue"},
    ],
}
SIZES = {"type": "array", "title": "Which sizes?", "items": {"type": "string", "enum": ["S", "L"]}}


def form(message: str = "Please say", call: str | None = None, **properties: Any) -> list[Any]:
    asked = {"mode": "form", "message": message, "requestedSchema": {"properties": properties}}
    return ["form", {**asked, **({"toolCallId": call} if call else {})}]


def answered(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.visible)
    return found


async def test_a_form_is_questions_and_its_values_come_back(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    host.answers = {"q1": "Blue", "q2": ["S", "my own"], "q3": "Yes", "q4": "seven"}
    sure, number = {"type": "boolean", "title": "Sure?"}, {"type": "integer"}
    wanted = form("About it:", color=COLOR, sizes=SIZES, sure=sure, number=number)
    await engine.run(steps(wanted), host)
    [(asked_id, [color, sizes, yes, many])] = host.forms
    assert asked_id == "form?1"
    assert (color.question, color.header) == ("About it:\nWhich color?", "Color")
    assert [(o.label, o.description) for o in color.options] == [
        ("Red", "like fire"),
        ("Blue", None),
    ]
    assert (sizes.question, sizes.header, sizes.multi_select) == ("Which sizes?", None, True)
    assert [o.label for o in yes.options] == ["Yes", "No"]
    assert (many.question, many.options) == ("number", ())
    content = {"color": "b", "sizes": ["S", "my own"], "sure": True, "number": "seven"}
    assert answered(host) == {"action": "accept", "content": content}


async def test_a_form_of_a_call_comes_after_it(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted())
    host.answers = {"q1": "Red"}
    await engine.run(steps(call(), form("Which color?", call="t1", color=COLOR)), host)
    assert [one[0] for one in host.events[:2]] == ["call", "question"]
    assert host.forms[0][0] == "t1?1"
    assert host.forms[0][1][0].question == "Which color?"


async def test_an_interrupt_cancels_the_form(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted())
    running = asyncio.create_task(engine.run(steps(form(color=COLOR)), host))
    await host.wait_for("question")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await engine.run(steps(["text", "on"], id="turn_2"), host)
    assert host.visible.endswith("on")


@pytest.mark.parametrize(
    "asked",
    [
        {"mode": "url", "message": "x", "url": "https://a.test/", "elicitationId": "e"},
        {"mode": "form", "message": "x", "requestedSchema": {"properties": {}}},
        {
            "mode": "form",
            "message": "x",
            "requestedSchema": {
                "properties": {f"p{n}": {"type": "string"} for n in range(MAX_QUESTIONS + 1)}
            },
        },
        {
            "mode": "form",
            "message": "x",
            "requestedSchema": {
                "properties": {
                    "p": {"type": "string", "enum": [str(n) for n in range(MAX_OPTIONS + 1)]}
                }
            },
        },
    ],
    ids=["url", "empty", "many", "options"],
)
async def test_a_form_that_nobody_could_fill_is_declined(
    engine: AcpEngine, host: Host, home: Path, asked: dict[str, Any]
) -> None:
    configure(home, scripted())
    await engine.run(steps(["form", asked]), host)
    assert answered(host) == {"action": "decline"}
    assert host.forms == []


async def test_a_form_that_is_not_well_formed_is_refused(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    await engine.run(steps(["form", {"mode": "form", "message": 5}]), host)
    assert answered(host)["code"] == -32602


def test_a_property_without_a_text_is_asked_with_the_message() -> None:
    found = parse_form("What is its name?", {"properties": {"value": {"type": "string"}}}, None)
    assert found is not None
    assert found.questions[0].question == "What is its name?"


@pytest.mark.parametrize("schema", [{}, {"properties": []}, {"properties": {"a": 1}}])
def test_no_form(schema: dict[str, Any]) -> None:
    assert parse_form("x", schema, None) is None
