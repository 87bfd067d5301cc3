"""After a restart, also after ``kill -9``: what was running, waiting and queued goes on rightly.

An engine whose choices are not durable says so in the Loop object; where a turn of it waited, these
tests hold it to what the contract has for that: ``error server_restarted``, the choice cancelled.

Random points of death are in ``tests/e2e/test_crash.py``; here each state dies once, on purpose.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.support.caller import Caller, Recorder, expect
from tests.support.mock_model import Gate, Hold, MockModel, Text, ask, asked, bash
from tests.support.server import JupyterServer, mock_provider

pytestmark = pytest.mark.slow(20)


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, model: MockModel) -> Iterator[JupyterServer]:
    """The server of this module, killed again and again."""
    with JupyterServer(
        tmp_path_factory.mktemp("mortal"),
        model=mock_provider(model.url),
        options=["--LoopatExtension.ping_interval=1"],
    ) as running:
        yield running


@pytest.fixture
async def caller(mortal: JupyterServer, recorder: Recorder) -> AsyncIterator[Callable[[], Caller]]:
    """Makes callers; a connection does not survive its server."""
    async with contextlib.AsyncExitStack() as stack:

        def make() -> Caller:
            one = Caller(mortal, recorder, headers=mortal.session)
            stack.push_async_callback(one.http.aclose)
            return one

        yield make


async def waits_on(api: Caller, loop_id: str, choice_id: str) -> bool:
    """Whether the loop's first turn goes on waiting; else it has ended as the contract says."""
    if (await api.state(loop_id))["durable_choices"]:
        return True
    log = await api.log(loop_id)
    first = [e for e in log if e.data["turn_id"] == log[0].data["turn_id"]]
    resolved = {"choice_id": choice_id, "source": "policy", "outcome": "cancelled"}
    by_name = {e.name: e.data for e in first}
    assert resolved.items() <= by_name["choice_resolved"].items()
    assert [e.name for e in first[-3:]] == ["choice_resolved", "tool_result", "error"]
    assert by_name["tool_result"]["ok"] is False
    assert by_name["error"]["code"] == "server_restarted"
    state = await api.state(loop_id)
    assert (state["busy"], state["current_turn"]) == (False, None)
    expect(await api.choose(loop_id, choice_id, allow=True), 404, "choice_not_found")
    return False


async def test_a_running_turn_ends_with_server_restarted_and_the_queue_runs_in_order(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel
) -> None:
    script = model.script([Text("half "), bash("echo ran >> ran.txt")], [Text("way"), Hold(Gate())])
    api = caller()
    loop_id = await api.loop()
    async with (
        api.send(loop_id, script.message(), mode="auto", key=f"key {loop_id}") as running,
        api.send(loop_id, "second") as second,
        api.send(loop_id, "third") as third,
    ):
        running.may_be_cut = second.may_be_cut = third.may_be_cut = True
        await running.until("tool_result")
        await running.until("assistant_delta")
        await second.until("queued")
        await third.until("queued")
        seen = running.stored
        mortal.restart()
    api = caller()
    log = await api.log(loop_id)
    assert log[: len(seen)] == seen
    ends = [(e.name, e.data.get("code")) for e in log if e.terminal]
    assert ends == [("error", "server_restarted"), ("done", None), ("done", None)]
    starts = [e.data["content"] for e in log if e.name == "started"]
    assert starts == [script.message(), "second", "third"]
    assert (mortal.workdir(loop_id) / "ran.txt").read_text() == "ran\n"
    state = await api.state(loop_id)
    assert (state["busy"], state["queue_depth"], state["turn_count"]) == (False, 0, 3)
    again = await api.turn(loop_id, script.message(), mode="auto", key=f"key {loop_id}")
    assert again == [e for e in log if e.data["turn_id"] == log[0].data["turn_id"]]


async def test_the_conversation_goes_on_and_the_agent_is_told_what_was_cut_off(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel
) -> None:
    api = caller()
    loop_id = await api.loop()
    first = model.script([Text("I remember everything.")])
    await api.turn(loop_id, first.message("the very first words"))
    cut = model.script([Text("half a sentence"), Hold(Gate())])
    async with api.send(loop_id, cut.message("the words that were cut")) as stream:
        stream.may_be_cut = True
        await stream.until("assistant_delta")
        mortal.restart()
    api = caller()
    script = model.script([Text("and on")])
    assert (await api.turn(loop_id, script.message()))[-1].name == "done"
    whole = script.requests[0].whole
    for words in (
        "the very first words", "I remember everything.",
        "the words that were cut", "half a sentence", "restart",
    ):  # fmt: skip
        assert words in whole, words


async def test_a_tool_that_was_running_gets_its_result_before_the_error(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel
) -> None:
    script = model.script([bash("echo ran >> ran.txt; sleep 4323")], [Text("never")])
    api = caller()
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="auto") as stream:
        stream.may_be_cut = True
        await stream.until("tool_call")
        await stream.until("ping")
        mortal.restart()
    api = caller()
    log = await api.log(loop_id)
    assert [e.name for e in log] == ["started", "tool_call", "tool_result", "error"]
    assert log[2].data["ok"] is False
    assert (mortal.workdir(loop_id) / "ran.txt").read_text() == "ran\n"


async def test_a_permission_is_answered_after_a_kill_and_the_tool_really_runs(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel
) -> None:
    script = model.script([Text("May I? "), bash("echo allowed >> ran.txt")], [Text("I did.")])
    api = caller()
    loop_id = await api.loop()
    key = f"key {loop_id}"
    async with api.send(loop_id, script.message(), mode="default", key=key) as stream:
        stream.may_be_cut = True
        required = (await stream.until("requires_choice")).data
        mortal.restart()
    api = caller()
    if not await waits_on(api, loop_id, required["choice_id"]):
        assert not (mortal.workdir(loop_id) / "ran.txt").exists()
        again = await api.turn(loop_id, script.message(), mode="default", key=key)
        assert again == await api.log(loop_id)
        assert (await api.turn(loop_id, "and on"))[-1].name == "done"
        return
    state = await api.state(loop_id)
    assert state["busy"] is True
    assert state["current_turn"]["pending_choice_id"] == required["choice_id"]
    expect(await api.choose(loop_id, required["choice_id"]), 400, "invalid_choice_payload")
    async with (
        api.watch(loop_id) as watching,
        api.send(loop_id, script.message(), mode="default", key=key) as again,
    ):
        snapshot = await watching.event()
        assert (snapshot.name, snapshot.data["choice"]) == ("snapshot", required)
        answer = await api.choose(loop_id, required["choice_id"], allow=True)
        assert answer.status_code == 202, answer.text
        assert (await again.rest())[-1].name == "done"
        assert again.text == "May I? I did."
        await watching.until("done")
    assert (mortal.workdir(loop_id) / "ran.txt").read_text() == "allowed\n"
    assert len(script.requests) == 2
    expect(await api.choose(loop_id, required["choice_id"], allow=True), 404, "choice_not_found")


async def test_a_question_is_answered_after_two_kills(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel
) -> None:
    script = model.script([ask(asked("Which color?", "Red", "Blue"))], [Text("Blue it is.")])
    api = caller()
    loop_id = await api.loop()
    async with api.send(loop_id, script.message()) as stream:
        stream.may_be_cut = True
        choice_id = (await stream.until("requires_choice")).data["choice_id"]
        mortal.restart()
        mortal.restart()
    api = caller()
    if not await waits_on(api, loop_id, choice_id):
        return
    async with api.watch(loop_id, after_seq=0) as watching:
        await watching.until("requires_choice")
        answer = await api.choose(loop_id, choice_id, answers={"Which color?": "Blue"})
        assert answer.status_code == 202, answer.text
        await watching.until("done")
    assert "Blue" in script.requests[1].tool_results()[0]


async def test_a_waiting_turn_keeps_its_queue_waiting_over_a_restart(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel
) -> None:
    script = model.script([bash("echo first >> order")], [Text("ok")])
    behind = model.script([bash("echo second >> order")], [Text("ok")])
    api = caller()
    loop_id = await api.loop()
    async with (
        api.send(loop_id, script.message(), mode="default") as waiting,
        api.send(loop_id, behind.message(), mode="auto") as queued,
    ):
        waiting.may_be_cut = queued.may_be_cut = True
        choice_id = (await waiting.until("requires_choice")).data["choice_id"]
        await queued.until("queued")
        mortal.restart()
    api = caller()
    if not await waits_on(api, loop_id, choice_id):  # the queue runs without it
        assert (mortal.workdir(loop_id) / "order").read_text() == "second\n"
        return
    state = await api.state(loop_id)
    assert (state["busy"], state["queue_depth"]) == (True, 1)
    assert state["current_turn"]["pending_choice_id"] == choice_id
    async with api.watch(loop_id, after_seq=0) as watching:
        await api.choose(loop_id, choice_id, allow=True)
        await watching.until("done")
        await watching.until("done")
    assert (mortal.workdir(loop_id) / "order").read_text() == "first\nsecond\n"


async def test_a_waiting_turn_can_be_interrupted_after_a_restart(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel
) -> None:
    script = model.script([bash("touch ran")], [Text("never")])
    api = caller()
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        stream.may_be_cut = True
        choice_id = (await stream.until("requires_choice")).data["choice_id"]
        mortal.restart()
    api = caller()
    waits = await waits_on(api, loop_id, choice_id)
    await api.interrupt(loop_id)
    log = await api.log(loop_id)
    end = "interrupted" if waits else "error"
    assert [e.name for e in log][-3:] == ["choice_resolved", "tool_result", end]
    assert (await api.state(loop_id))["busy"] is False
    assert (await api.turn(loop_id, "and on"))[-1].name == "done"


async def test_loops_tokens_rules_and_archived_state_survive(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel, recorder: Recorder
) -> None:
    api = caller()
    kept = await api.create(title="kept", metadata={"a": "b"})
    gone = await api.loop()
    await api.delete(f"/loops/{gone}")
    script = model.script([bash("git status")], [Text("ok")])
    async with api.send(kept["id"], script.message(), mode="default") as stream:
        required = (await stream.until("requires_choice")).data
        await api.choose(kept["id"], required["choice_id"], allow=True, remember="loop")
        await stream.rest()
    token = mortal.mint()
    before = (await api.get(f"/loops/{kept['id']}/rules")).json()
    mortal.restart()
    api = caller()
    seen = await api.state(kept["id"])
    assert {k: seen[k] for k in kept if k in seen} == {k: seen[k] for k in kept if k in seen} | {
        "title": "kept", "metadata": {"a": "b"}, "created_at": kept["created_at"],
    }  # fmt: skip
    assert (await api.state(gone))["archived"] is True
    assert (await api.get(f"/loops/{kept['id']}/rules")).json() == before
    headers = {"Authorization": f"Bearer {token['token']}"}
    async with Caller(mortal, recorder, headers=headers) as program:
        assert (await program.state(kept["id"]))["id"] == kept["id"]


async def test_a_clean_stop_and_start_lose_nothing_either(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel
) -> None:
    running = model.script([Text("a"), Hold(Gate())])
    waiting = model.script([bash("echo yes > ran")], [Text("ok")])
    api = caller()
    loops = [await api.loop(), await api.loop()]
    async with (
        api.send(loops[0], running.message()) as first,
        api.send(loops[1], waiting.message(), mode="default") as second,
        api.send(loops[0], "queued one") as third,
    ):
        first.may_be_cut = second.may_be_cut = third.may_be_cut = True
        await first.until("assistant_delta")
        choice_id = (await second.until("requires_choice")).data["choice_id"]
        await third.until("queued")
        await asyncio.to_thread(mortal.stop)
        mortal.start()
    api = caller()
    log = await api.log(loops[0])
    assert [(e.name, e.data.get("code")) for e in log if e.terminal] == [
        ("error", "server_restarted"), ("done", None),
    ]  # fmt: skip
    if not await waits_on(api, loops[1], choice_id):
        return
    async with api.watch(loops[1]) as watching:
        assert (await watching.event()).name == "snapshot"
        await api.choose(loops[1], choice_id, allow=True)
        await watching.until("done")
    assert (mortal.workdir(loops[1]) / "ran").read_text() == "yes\n"
