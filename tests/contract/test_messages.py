"""Messages: what a POST's stream shows, idempotency, queueing."""

import asyncio
import contextlib

import pytest

from tests.support.caller import Caller, expect
from tests.support.mock_model import Gate, Hold, MockModel, Text, Thinking, bash
from tests.support.sse import Event


async def test_an_idle_loops_stream_goes_from_started_to_done(
    api: Caller, model: MockModel
) -> None:
    script = model.script([Text("Hello "), Text("there.")])
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message("hi"))
    # How many deltas there are is the server's to choose; their text is not.
    assert list(dict.fromkeys(e.name for e in events)) == ["started", "assistant_delta", "done"]
    assert "".join(e.data.get("text", "") for e in events) == "Hello there."
    assert events[0].data["content"] == script.message("hi")
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert len({e.data["turn_id"] for e in events}) == 1


async def test_a_turn_with_a_tool_shows_the_call_and_its_result(
    api: Caller, model: MockModel
) -> None:
    script = model.script(
        [Thinking("I must look."), Text("Looking. "), bash("echo $((6*7))")], [Text("It is 42.")]
    )
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message(), mode="bypassPermissions")
    assert [e.name for e in events] == [
        "started", "thinking_delta", "assistant_delta", "tool_call", "tool_result",
        "assistant_delta", "done",
    ]  # fmt: skip
    assert events[1].data["text"] == "I must look."
    call = events[3].data
    assert (call["tool"], call["input_summary"]) == ("Bash", "echo $((6*7))")
    assert events[4].data["ok"] is True
    assert "42" in script.requests[1].tool_results()[0]


async def test_done_carries_the_sums_of_the_turns_usage(api: Caller, model: MockModel) -> None:
    script = model.script([bash("true")], [Text("ok")])
    loop_id = await api.loop()
    done = (await api.turn(loop_id, script.message(), mode="bypassPermissions"))[-1]
    usage = done.data["usage"]
    assert usage["output_tokens"] == 14
    assert usage["cache_read_tokens"] == 6
    assert usage["cache_write_tokens"] == 4
    assert usage["input_tokens"] >= 20


async def test_cold_start_is_true_exactly_when_a_sandbox_had_to_start(
    api: Caller, model: MockModel
) -> None:
    loop_id = await api.loop()
    first = model.script([bash("true")], [Text("ok")])
    second = model.script([bash("true")], [Text("ok")])
    cold = (await api.turn(loop_id, first.message(), mode="auto"))[0].data["cold_start"]
    warm = (await api.turn(loop_id, second.message(), mode="auto"))[0].data["cold_start"]
    assert (cold, warm) == (True, False)


@pytest.mark.parametrize("where", ["input_summary"])
async def test_the_summary_of_a_call_has_at_most_200_characters(
    api: Caller, model: MockModel, where: str
) -> None:
    command = "true " + "x" * 500
    script = model.script([bash(command)], [Text("ok")])
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message(), mode="auto")
    call = next(e for e in events if e.name == "tool_call")
    assert 190 <= len(call.data[where]) <= 200


async def test_a_loop_is_idle_by_the_time_its_stream_has_ended(api: Caller) -> None:
    loop_id = await api.loop()
    for n in range(5):
        await api.turn(loop_id, f"message {n}")
        state = await api.state(loop_id)
        assert (state["busy"], state["turn_count"]) == (False, n + 1)


async def test_closing_the_connection_does_not_stop_the_turn(api: Caller, model: MockModel) -> None:
    gate = Gate()
    script = model.script([Text("one "), Hold(gate), Text("two")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message()) as stream:
        await stream.until("assistant_delta")
    gate.open()
    assert [e.name for e in await api.log(loop_id)][-1] == "done"
    assert (await api.history(loop_id))[-1]["content"] == "one two"


async def test_a_busy_loop_queues_and_runs_in_order_without_cutting_short(
    api: Caller, model: MockModel
) -> None:
    gate = Gate()
    script = model.script([Text("a"), Hold(gate), Text("b")])
    loop_id = await api.loop()
    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(api.send(loop_id, script.message()))
        await running.until("assistant_delta")
        queued = []
        for n in (1, 2, 3):
            stream = await stack.enter_async_context(api.send(loop_id, f"queued {n}"))
            first = await stream.event()
            assert (first.name, first.seq, first.data) == ("queued", None, {"position": n})
            queued.append(stream)
        gate.open()
        ended = await asyncio.gather(running.rest(), *(s.rest() for s in queued))
    assert running.text == "ab"
    for n, events in enumerate(ended[1:], 1):
        assert [e.name for e in events[:2]] == ["queued", "started"]
        assert events[1].data["content"] == f"queued {n}"
        assert events[-1].name == "done"
    starts = [e.data["content"] for e in await api.log(loop_id) if e.name == "started"]
    assert starts == [script.message(), "queued 1", "queued 2", "queued 3"]


async def test_turns_of_different_loops_run_side_by_side(api: Caller, model: MockModel) -> None:
    gates = [Gate(), Gate(), Gate()]
    async with contextlib.AsyncExitStack() as stack:
        for gate in gates:
            loop_id = await api.loop()
            message = model.script([Text("x"), Hold(gate)]).message()
            stream = await stack.enter_async_context(api.send(loop_id, message))
            await stream.until("assistant_delta")
        for gate in gates:
            await gate.reached()
            gate.open()


# --------------------------------------------------------------------------- idempotency


def stored(events: list[Event]) -> list[Event]:
    return [e for e in events if e.seq is not None]


async def test_the_same_key_gives_the_recorded_turn_again(api: Caller, model: MockModel) -> None:
    script = model.script([Text("only "), bash("echo run >> count")], [Text("once")])
    loop_id = await api.loop()
    first = await api.turn(loop_id, script.message(), key="replay", mode="auto")
    again = await api.turn(loop_id, script.message(), key="replay", mode="auto")
    assert stored(again) == stored(first)
    assert (await api.state(loop_id))["turn_count"] == 1
    assert len(script.requests) == 2
    assert (api.server.workdir(loop_id) / "count").read_text() == "run\n"


async def test_a_replay_of_a_running_turn_goes_on_live(api: Caller, model: MockModel) -> None:
    gate = Gate()
    script = model.script([Text("a"), Hold(gate), Text("b")])
    loop_id = await api.loop()
    async with (
        api.send(loop_id, script.message(), key="live") as first,
        api.send(loop_id, script.message(), key="live") as second,
    ):
        await first.until("assistant_delta")
        await second.until("assistant_delta")
        gate.open()
        ended = await asyncio.gather(first.rest(), second.rest())
    assert stored(ended[0]) == stored(ended[1])
    assert first.text == "ab"
    assert (await api.state(loop_id))["turn_count"] == 1


async def test_two_requests_at_once_with_one_key_are_one_turn(
    api: Caller, session: Caller, model: MockModel
) -> None:
    for n in range(10):
        script = model.script([Text("one"), bash("echo x >> ran")], [Text(" turn")])
        loop_id = await api.loop()
        both = await asyncio.gather(
            api.turn(loop_id, script.message(), key=f"race {n} {loop_id}", mode="auto"),
            session.turn(loop_id, script.message(), key=f"race {n} {loop_id}", mode="auto"),
        )
        assert stored(both[0]) == stored(both[1])
        assert both[0][-1].name == "done"
        assert (await api.state(loop_id))["turn_count"] == 1
        assert (api.server.workdir(loop_id) / "ran").read_text() == "x\n"


async def test_a_key_used_for_another_body_or_loop_is_a_conflict(api: Caller) -> None:
    loop_id, other = await api.loop(), await api.loop()
    key = f"reused {loop_id}"
    await api.turn(loop_id, "hello", key=key)
    headers = {"Idempotency-Key": key}
    for target, body in (
        (loop_id, {"content": "different"}),
        (loop_id, {"content": "hello", "permission_mode": "plan"}),
        (other, {"content": "hello"}),
    ):
        answer = await api.post(f"/loops/{target}/messages", json=body, headers=headers)
        expect(answer, 409, "idempotency_key_reused")
    assert (await api.state(loop_id))["turn_count"] == 1
    assert (await api.state(other))["turn_count"] == 0


async def test_the_same_body_written_differently_is_the_same(api: Caller) -> None:
    loop_id = await api.loop()
    key = f"spelling {loop_id}"
    first = await api.turn(loop_id, "hé", key=key)
    async with api.http.stream(
        "POST",
        api.url(f"/loops/{loop_id}/messages"),
        content=rb'{ "content" : "h\u00e9", "permission_mode": null }',
        headers={"Idempotency-Key": key},
    ) as answer:
        text = (await answer.aread()).decode()
    assert answer.status_code == 200, text
    assert first[0].data["turn_id"] in text


async def test_without_a_key_the_same_message_is_two_turns(api: Caller) -> None:
    loop_id = await api.loop()
    turns = [(await api.turn(loop_id, "hello"))[-1].data["turn_id"] for _ in range(2)]
    assert turns[0] != turns[1]


async def test_a_refused_message_does_not_use_its_key_up(api: Caller) -> None:
    loop_id = await api.loop()
    headers = {"Idempotency-Key": f"free {loop_id}"}
    answer = await api.post(f"/loops/{loop_id}/messages", json={"content": 5}, headers=headers)
    expect(answer, 400, "invalid_parameter")
    events = await api.turn(loop_id, "hello", key=headers["Idempotency-Key"])
    assert events[-1].name == "done"


async def test_a_replay_on_an_archived_loop_gives_the_record_or_says_archived(
    api: Caller,
) -> None:
    loop_id = await api.loop()
    await api.turn(loop_id, "hello", key=f"late {loop_id}")
    await api.delete(f"/loops/{loop_id}")
    answer = await api.post(
        f"/loops/{loop_id}/messages",
        json={"content": "hello"},
        headers={"Idempotency-Key": f"late {loop_id}"},
    )
    assert answer.status_code in {200, 400}
    if answer.status_code == 400:
        expect(answer, 400, "loop_archived")
