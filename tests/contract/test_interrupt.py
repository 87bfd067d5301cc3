"""Interrupting: the running turn ends, the queue goes on, background processes live."""

import asyncio

import psutil

from tests.support.caller import Caller
from tests.support.mock_model import Gate, Hold, MockModel, Text, bash


async def test_interrupting_an_idle_loop_is_accepted(api: Caller) -> None:
    loop_id = await api.loop()
    answer = await api.post(f"/loops/{loop_id}/interrupt")
    assert answer.status_code == 202
    assert (await api.state(loop_id))["turn_count"] == 0


async def test_interrupting_an_archived_loop_is_accepted(api: Caller) -> None:
    loop_id = await api.loop()
    await api.delete(f"/loops/{loop_id}")
    assert (await api.post(f"/loops/{loop_id}/interrupt")).status_code == 202


async def test_a_running_turn_ends_interrupted_and_its_streams_close(
    api: Caller, model: MockModel
) -> None:
    script = model.script([Text("a"), Hold(Gate()), Text("never")])
    loop_id = await api.loop()
    key = f"interrupt {loop_id}"
    async with (
        api.send(loop_id, script.message(), key=key) as first,
        api.send(loop_id, script.message(), key=key) as second,
        api.watch(loop_id, after_seq=0) as watching,
    ):
        await first.until("assistant_delta")
        await second.until("assistant_delta")
        await api.interrupt(loop_id)
        for stream in (first, second):
            assert (await stream.rest())[-1].name == "interrupted"
            assert stream.text == "a"
        await watching.until("interrupted")
    assert (await api.state(loop_id))["busy"] is False


async def test_interrupt_kills_the_tool_process_that_the_turn_waits_for(
    api: Caller, model: MockModel
) -> None:
    script = model.script([bash("touch begun; sleep 4321; touch ended")], [Text("never")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="auto") as stream:
        await stream.until("tool_call")
        await stream.until("ping")  # the command is running by now, or will not run at all
        await api.interrupt(loop_id)
        events = await stream.rest()
    assert events[-1].name == "interrupted"
    assert [e.data["ok"] for e in events if e.name == "tool_result"] == [False]
    assert not running("4321")
    assert not (api.server.workdir(loop_id) / "ended").exists()


async def test_background_processes_live_on_after_an_interrupt(
    api: Caller, model: MockModel
) -> None:
    first = model.script(
        [bash("sleep 4322 & until grep -q sleep /proc/$!/comm; do :; done; echo started")],
        [Text("a"), Hold(Gate())],
    )
    loop_id = await api.loop()
    async with api.send(loop_id, first.message(), mode="auto") as stream:
        await stream.until("assistant_delta")
        await api.interrupt(loop_id)
        await stream.rest()
    assert running("4322")
    second = model.script([bash("pgrep -x sleep; pkill -x sleep")], [Text("ok")])
    events = await api.turn(loop_id, second.message(), mode="auto")
    assert events[0].data["cold_start"] is False
    assert second.requests[1].tool_results()[-1].strip()[:1].isdigit()


async def test_queued_turns_run_after_an_interrupt(api: Caller, model: MockModel) -> None:
    script = model.script([Text("a"), Hold(Gate())])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message()) as running_turn:
        await running_turn.until("assistant_delta")
        async with api.send(loop_id, "next one") as queued, api.send(loop_id, "third") as third:
            await queued.until("queued")
            await third.until("queued")
            await api.interrupt(loop_id)
            ended = await asyncio.gather(running_turn.rest(), queued.rest(), third.rest())
    assert [events[-1].name for events in ended] == ["interrupted", "done", "done"]


async def test_the_next_turn_knows_that_the_last_was_interrupted(
    api: Caller, model: MockModel
) -> None:
    cut = model.script([Text("half a thou"), Hold(Gate())])
    loop_id = await api.loop()
    async with api.send(loop_id, cut.message("first question")) as stream:
        await stream.until("assistant_delta")
        await api.interrupt(loop_id)
        await stream.rest()
    script = model.script([Text("again")])
    assert (await api.turn(loop_id, script.message()))[-1].name == "done"
    whole = script.requests[0].whole
    assert "first question" in whole
    assert "half a thou" in whole
    assert "interrupted" in whole


async def test_interrupting_twice_ends_one_turn_only(api: Caller, model: MockModel) -> None:
    first = model.script([Text("a"), Hold(Gate())])
    loop_id = await api.loop()
    async with api.send(loop_id, first.message()) as stream:
        await stream.until("assistant_delta")
        await asyncio.gather(*(api.interrupt(loop_id) for _ in range(5)))
        assert (await stream.rest())[-1].name == "interrupted"
    assert (await api.turn(loop_id, "and on"))[-1].name == "done"


def running(seconds: str) -> bool:
    """Whether a ``sleep`` of this many seconds runs anywhere on the machine."""
    return any(p.info["cmdline"] == ["sleep", seconds] for p in psutil.process_iter(["cmdline"]))
