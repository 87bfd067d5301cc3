"""The conversation so far, as rows."""

import re
from typing import Any

import pytest

from tests.support.caller import Caller, expect
from tests.support.mock_model import Gate, Hold, MockModel, Text, Tool, bash

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


async def page(caller: Caller, loop_id: str, **query: Any) -> dict[str, Any]:
    answer = await caller.get(f"/loops/{loop_id}/messages", params=query)
    assert answer.status_code == 200, answer.text
    listed: dict[str, Any] = answer.json()
    assert set(listed) == {"data", "has_more", "last_id"}
    return listed


async def test_a_new_loop_has_an_empty_history(api: Caller) -> None:
    listed = await page(api, await api.loop())
    assert listed == {"data": [], "has_more": False, "last_id": None}


async def test_a_turn_is_a_user_row_and_an_assistant_row(api: Caller, model: MockModel) -> None:
    script = model.script([Text("Running. "), bash("echo out; exit 3")], [Text("It failed.")])
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message("go"), mode="auto")
    user, assistant = (await page(api, loop_id))["data"]
    for row in (user, assistant):
        assert row["turn_id"] == events[0].data["turn_id"]
        assert TIMESTAMP.fullmatch(row["created_at"])
        assert row["status"] == "done"
    assert (user["role"], user["content"]) == ("user", script.message("go"))
    assert user["tool_calls"] == []
    assert (assistant["role"], assistant["content"]) == ("assistant", "Running. It failed.")
    (call,) = assistant["tool_calls"]
    assert (call["tool"], call["ok"]) == ("Bash", False)
    assert call["input"] == {"command": "echo out; exit 3"}
    assert "out" in call["result"]
    assert assistant["usage"] == events[-1].data["usage"]
    assert user["id"] != assistant["id"]


@pytest.mark.builtin("how much of an output it shows")
async def test_a_tool_result_is_capped_at_10_kb(api: Caller, model: MockModel) -> None:
    script = model.script([bash("seq 1 20000")], [Text("long")])
    loop_id = await api.loop()
    await api.turn(loop_id, script.message(), mode="auto")
    (call,) = (await page(api, loop_id))["data"][1]["tool_calls"]
    assert 5_000 < len(call["result"].encode()) <= 10_240
    assert len(script.requests[1].tool_results()[0]) > 50_000


async def test_queued_messages_have_a_user_row_only(api: Caller, model: MockModel) -> None:
    gate = Gate()
    script = model.script([Text("working"), Hold(gate)])
    loop_id = await api.loop()
    async with (
        api.send(loop_id, script.message()) as running,
        api.send(loop_id, "later") as queued,
    ):
        await running.until("assistant_delta")
        await queued.until("queued")
        rows = (await page(api, loop_id))["data"]
        assert [(r["role"], r["status"]) for r in rows] == [
            ("user", "running"), ("assistant", "running"), ("user", "queued"),
        ]  # fmt: skip
        assert (rows[1]["content"], rows[1]["usage"]) == ("working", None)
        gate.open()
        await running.rest()
        await queued.rest()


async def test_a_waiting_turn_says_so_and_its_call_has_no_outcome(
    api: Caller, model: MockModel
) -> None:
    script = model.script([bash("echo hi")], [Text("ok")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        required = await stream.until("requires_choice")
        rows = (await page(api, loop_id))["data"]
        assert [r["status"] for r in rows] == ["waiting", "waiting"]
        assert rows[1]["tool_calls"][0]["ok"] is None
        await api.choose(loop_id, required.data["choice_id"], allow=False)
        await stream.rest()


async def test_input_that_was_no_json_object_is_shown_as_it_came(
    api: Caller, model: MockModel
) -> None:
    script = model.script([Tool("Bash", '{"command": ')], [Text("sorry")])
    loop_id = await api.loop()
    await api.turn(loop_id, script.message(), mode="auto")
    (call,) = (await page(api, loop_id))["data"][1]["tool_calls"]
    assert call["ok"] is False


async def test_pages_walk_the_conversation_oldest_first(api: Caller) -> None:
    loop_id = await api.loop()
    for n in range(5):
        await api.turn(loop_id, f"message {n}")
    whole = (await page(api, loop_id, limit=100))["data"]
    assert [r["content"] for r in whole if r["role"] == "user"] == [
        f"message {n}" for n in range(5)
    ]
    walked: list[dict[str, Any]] = []
    listed = await page(api, loop_id, limit=3)
    while True:
        walked += listed["data"]
        assert listed["last_id"] == listed["data"][-1]["id"]
        if not listed["has_more"]:
            break
        listed = await page(api, loop_id, limit=3, after=listed["last_id"])
    assert walked == whole
    after_all = await page(api, loop_id, after=whole[-1]["id"])
    assert after_all == {"data": [], "has_more": False, "last_id": None}


async def test_newest_first_walks_the_same_rows_backwards(api: Caller) -> None:
    loop_id = await api.loop()
    for n in range(3):
        await api.turn(loop_id, f"message {n}")
    whole = (await page(api, loop_id, limit=100))["data"]
    walked: list[dict[str, Any]] = []
    query: dict[str, Any] = {"order": "desc", "limit": 2}
    while True:
        listed = await page(api, loop_id, **query)
        walked += listed["data"]
        if not listed["has_more"]:
            break
        query["after"] = listed["last_id"]
    assert [{k: v for k, v in row.items() if k != "seq"} for row in walked] == whole[::-1]
    before_all = await page(api, loop_id, order="desc", after=whole[0]["id"])
    assert before_all == {"data": [], "has_more": False, "last_id": None}


async def test_a_row_newest_first_says_where_its_turn_begins_in_the_events(
    api: Caller, model: MockModel
) -> None:
    gate = Gate()
    script = model.script([Text("working"), Hold(gate)])
    loop_id = await api.loop()
    await api.turn(loop_id, "first")
    async with (
        api.send(loop_id, script.message()) as running,
        api.send(loop_id, "later") as queued,
    ):
        await queued.until("queued")
        waits, answer, said, *_ = (await page(api, loop_id, order="desc"))["data"]
        assert (waits["content"], waits["seq"]) == ("later", None)
        assert said["seq"] == answer["seq"] > 1
        async with api.watch(loop_id, after_seq=said["seq"] - 1) as replay:
            started = await replay.until("started")
        assert started.seq == said["seq"]
        assert started.data["turn_id"] == said["turn_id"]
        gate.open()
        await running.rest()
        await queued.rest()


async def test_an_order_that_is_none_is_refused(api: Caller) -> None:
    answer = await api.get(f"/loops/{await api.loop()}/messages", params={"order": "newest"})
    expect(answer, 400, "invalid_parameter")


async def test_20_rows_are_the_default_page(api: Caller) -> None:
    loop_id = await api.loop()
    for n in range(11):
        await api.turn(loop_id, f"message {n}")
    listed = await page(api, loop_id)
    assert (len(listed["data"]), listed["has_more"]) == (20, True)


async def test_an_unknown_row_is_invalid_cursor(api: Caller) -> None:
    loop_id = await api.loop()
    await api.turn(loop_id, "hello")
    other = await api.loop()
    await api.turn(other, "hello")
    foreign = (await page(api, other))["last_id"]
    for cursor in ("nonsense", "", foreign):
        answer = await api.get(f"/loops/{loop_id}/messages", params={"after": cursor})
        expect(answer, 400, "invalid_cursor")


async def test_the_agent_is_given_the_conversation_so_far(api: Caller, model: MockModel) -> None:
    loop_id = await api.loop()
    await api.turn(loop_id, model.script([Text("the first answer")]).message("my first words"))
    script = model.script([Text("the second")])
    await api.turn(loop_id, script.message("my second words"))
    request = script.requests[0]
    texts = " ".join(request.user_texts())
    assert "my first words" in texts
    assert "my second words" in texts
    assert "the first answer" in request.whole
