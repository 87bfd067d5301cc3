"""Sizes: the last that is accepted, and the first that is not."""

import json
from typing import Any

import pytest

from tests.support.caller import Caller, expect
from tests.support.mock_model import MockModel, Text

METADATA = 16 * 1024
CONTENT = 2**20


def metadata_of(size: int, filler: str = "x") -> dict[str, str]:
    """Metadata that is exactly ``size`` bytes of compact UTF-8 JSON."""
    room = size - len(json.dumps({"k": ""}, separators=(",", ":")))
    width = len(filler.encode())
    return {"k": filler * (room // width) + "x" * (room % width)}


@pytest.mark.parametrize("letter", ["x", "é", "🐍"])
async def test_a_title_has_at_most_200_characters_after_trimming(
    session: Caller, letter: str
) -> None:
    assert (await session.create(title=f"  {letter * 200} \n"))["title"] == letter * 200
    expect(await session.post("/loops", json={"title": letter * 201}), 400, "title_too_long")


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"title": " \t\n "}])
async def test_an_empty_title_becomes_untitled(session: Caller, body: dict[str, Any]) -> None:
    assert (await session.create(**body))["title"] == "untitled"


@pytest.mark.parametrize("filler", ["x", "é", "🐍"])
async def test_metadata_has_at_most_16_kib_as_compact_utf8_json(
    session: Caller, filler: str
) -> None:
    largest = metadata_of(METADATA, filler)
    assert (await session.create(metadata=largest))["metadata"] == largest
    answer = await session.post("/loops", json={"metadata": metadata_of(METADATA + 1, filler)})
    expect(answer, 400, "metadata_too_large")


async def test_metadata_is_never_shown_to_the_agent(session: Caller, model: MockModel) -> None:
    script = model.script([Text("hello")])
    loop_id = await session.loop(metadata={"color": "ultramarine-7731"}, title="vermilion-4419")
    await session.turn(loop_id, script.message())
    assert "ultramarine-7731" not in script.requests[0].whole


async def test_content_has_at_most_1_mib_of_utf8(session: Caller, model: MockModel) -> None:
    script = model.script([Text("long")])
    loop_id = await session.loop()
    message = script.message("é" * 1000)
    message += "x" * (CONTENT - len(message.encode()))
    events = await session.turn(loop_id, message)
    assert events[0].data["content"] == message
    answer = await session.post(f"/loops/{loop_id}/messages", json={"content": message + "x"})
    expect(answer, 400, "content_too_large")


@pytest.mark.parametrize("body", [{}, {"content": None}, {"content": ""}, {"content": " \n\t "}])
async def test_missing_or_blank_content_is_missing_content(
    session: Caller, body: dict[str, Any]
) -> None:
    loop_id = await session.loop()
    expect(await session.post(f"/loops/{loop_id}/messages", json=body), 400, "missing_content")
    assert (await session.state(loop_id))["turn_count"] == 0


async def test_an_empty_message_body_is_refused(session: Caller) -> None:
    loop_id = await session.loop()
    answer = await session.post(f"/loops/{loop_id}/messages")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in {"invalid_json", "missing_content"}


async def test_an_idempotency_key_has_at_most_256_characters(session: Caller) -> None:
    loop_id = await session.loop()
    assert (await session.turn(loop_id, "hello", key="k" * 256))[-1].name == "done"
    answer = await session.post(
        f"/loops/{loop_id}/messages",
        json={"content": "hello"},
        headers={"Idempotency-Key": "k" * 257},
    )
    expect(answer, 400, "idempotency_key_too_long")


@pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "abc", "", "+5", " 5", "0x5", "٥"])
async def test_a_page_limit_out_of_range_is_invalid_parameter(session: Caller, limit: str) -> None:
    loop_id = await session.loop()
    for path in ("/loops", f"/loops/{loop_id}/messages"):
        expect(await session.get(path, params={"limit": limit}), 400, "invalid_parameter")


@pytest.mark.parametrize("limit", [1, 100])
async def test_the_ends_of_the_page_limit_are_served(session: Caller, limit: int) -> None:
    loop_id = await session.loop()
    for path in ("/loops", f"/loops/{loop_id}/messages"):
        assert (await session.get(path, params={"limit": limit})).status_code == 200
