"""Choices at rest: the turn waits with its CLI alive, killed, or in another sandbox and engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.claude.engine import ClaudeEngine
from loopat_jupyter.loops.ports.engine import Turn, TurnSuspended, TurnUsage
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from tests.engines.memory_host import MemoryHost, turn_of
from tests.support.mock_model import MockModel, Text, Tool, ask, asked, bash

pytestmark = pytest.mark.slow(30)

Start = Any
NewEngine = Callable[..., ClaudeEngine]


async def rest(engine: ClaudeEngine, turn: Turn, host: MemoryHost) -> None:
    with pytest.raises(TurnSuspended):
        await engine.run(turn, host)


async def test_a_suspended_turn_is_resumed_in_the_same_cli(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    script = model.script([Text("May I? "), bash("echo ran >> ran.txt")], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    await rest(engine, turn, host)
    assert not (spec.workdir / "ran.txt").exists()
    agent = engine._processes["loop_1"]
    host.answer(True)
    await engine.run(host.resumed(turn), host)
    assert engine._processes["loop_1"] is agent
    assert (spec.workdir / "ran.txt").read_text() == "ran\n"
    assert host.visible == "May I? Done."
    assert host.total.input_tokens == 20
    assert host.total.output_tokens == 14


@pytest.mark.parametrize("allow", [True, False])
async def test_a_suspended_turn_survives_its_sandbox_and_its_engine(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec, allow: bool
) -> None:
    script = model.script([Text("May I? "), bash("echo ran >> ran.txt")], [Text("Done.")])
    box, engine, turn = await new_sandbox(), new_engine(), turn_of(script.message())
    host = MemoryHost(box, ask={"Bash"})
    await rest(engine, turn, host)
    await box.stop()
    host.box = await new_sandbox()
    host.answer(allow)
    await new_engine().run(host.resumed(turn), host)
    assert (spec.workdir / "ran.txt").exists() is allow
    if allow:
        assert (spec.workdir / "ran.txt").read_text() == "ran\n"
    else:
        assert "User denied permission" in script.requests[1].tool_results()[0]
    assert host.visible == "May I? Done."
    assert [ok for ok, _ in host.results] == [allow]
    assert len(script.requests) == 2


async def test_parallel_calls_are_each_asked_and_run_once_across_sandboxes(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    calls = [bash(f"echo {name} >> {name}.txt") for name in "abc"]
    script = model.script([Text("Three. "), *calls], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    await rest(new_engine(), turn, host)
    for allow in (True, False, True):
        await host.box.stop()
        host.box = await new_sandbox()
        assert host.pending == [calls[len(host.answers)].id]
        host.answer(allow)
        engine = new_engine()
        if len(host.answers) < 3:
            await rest(engine, host.resumed(turn), host)
        else:
            await engine.run(host.resumed(turn), host)
    assert [(spec.workdir / f"{n}.txt").exists() for n in "abc"] == [True, False, True]
    assert (spec.workdir / "a.txt").read_text() == "a\n"
    assert [ok for ok, _ in host.results] == [True, False, True]
    assert len(script.requests) == 2
    told = script.requests[1].tool_results()
    assert len(told) == 3
    assert "User denied permission" in told[1]
    assert host.visible == "Three. Done."


async def test_parallel_calls_go_on_after_a_recovery_with_the_cli_that_recovered(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    calls = [bash(f"echo {name} >> {name}.txt") for name in "abc"]
    script = model.script([*calls], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    await rest(new_engine(), turn, host)
    await host.box.stop()
    host.box, engine = await new_sandbox(), new_engine()
    for _ in range(2):
        host.answer(True)
        await rest(engine, host.resumed(turn), host)
    host.answer(True)
    await engine.run(host.resumed(turn), host)
    assert [(spec.workdir / f"{n}.txt").read_text() for n in "abc"] == ["a\n", "b\n", "c\n"]
    assert len(script.requests) == 2
    assert len(script.requests[1].tool_results()) == 3


async def test_reads_beside_a_waiting_call_have_run_before_the_turn_is_suspended(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    (spec.workdir / "seed.txt").write_text("seed\n")
    read = Tool("Read", {"file_path": "seed.txt"})
    script = model.script([read, bash("echo ran > ran.txt")], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    await rest(engine, turn, host)
    assert [ok for ok, _ in host.results] == [True]
    host.answer(True)
    await engine.run(host.resumed(turn), host)
    assert [ok for ok, _ in host.results] == [True, True]


@pytest.mark.parametrize("mode", ["default", "auto"])
async def test_what_ran_beside_a_waiting_call_is_not_run_again_where_the_cli_is_lost(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec, mode: Any
) -> None:
    (spec.workdir / "seed.txt").write_text("seed\n")
    beside = [Tool("Read", {"file_path": "seed.txt"}), bash("echo beside >> ran.txt; cat ran.txt")]
    last = bash("echo waited > waited.txt") if mode == "default" else ask(asked("Yes?", "a", "b"))
    calls = [call.id for call in beside]
    script = model.script([*beside, last], [Text("Done.")])
    box, engine = await new_sandbox(), new_engine()
    host, turn = MemoryHost(box, ask={last.id}), turn_of(script.message())
    turn = replace(turn, permission_mode=mode)
    await rest(engine, turn, host)
    await engine.close_loop("loop_1")  # at once: the CLI has not stored all it has said
    await box.stop()
    host.box = await new_sandbox()
    host.answer(True if mode == "default" else {"q1": "a"})
    await new_engine().run(host.resumed(turn), host)
    assert (spec.workdir / "ran.txt").read_text() == "beside\n"
    told = script.requests[1].results_of_calls()
    assert set(told) == {*calls, last.id}
    assert "seed" in told[calls[0]]
    assert "beside" in told[calls[1]]
    assert [ok for ok, _ in host.results] == [True] * 3
    assert len(script.requests) == 2


@pytest.mark.parametrize("evicted", [False, True])
async def test_a_question_gets_its_answers(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, evicted: bool
) -> None:
    questions = ask(asked("Which color?", "Red", "Blue"), asked("Sizes?", "S", "L", multi=True))
    script = model.script([questions], [Text("Thanks.")])
    host, turn = MemoryHost(await new_sandbox()), turn_of(script.message())
    engine = new_engine()
    await rest(engine, turn, host)
    asked_for = next(one[2] for one in host.events if one[0] == "question")
    assert [one.id for one in asked_for] == ["q1", "q2"]
    assert asked_for[1].multi_select
    if evicted:
        await host.box.stop()
        host.box, engine = await new_sandbox(), new_engine()
    host.answer({"q1": "Blue", "q2": ["S", "my own"]})
    await engine.run(host.resumed(turn), host)
    told = script.requests[1].tool_results()[0]
    assert "Blue" in told
    assert "my own" in told
    assert host.results == [(True, told)]


async def test_a_call_that_had_started_is_not_run_again(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    call = bash("echo ran >> ran.txt")
    script = model.script([call], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    await rest(new_engine(), turn, host)
    await host.box.stop()
    host.box = await new_sandbox()
    host.entries.append({"type": "claude_started", "id": call.id})
    await new_engine().run(host.resumed(turn), host)
    assert not (spec.workdir / "ran.txt").exists()
    assert "check before you repeat it" in script.requests[1].tool_results()[0]
    assert host.results[0][0] is False


async def test_a_server_that_stops_just_when_a_person_is_asked_leaves_the_call_open(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    class Slow(MemoryHost):
        """Its last word before the rest takes for ever."""

        resting: asyncio.Event = asyncio.Event()

        async def usage(self, usage: TurnUsage) -> None:
            if self.pending:
                self.resting.set()
                await asyncio.get_running_loop().create_future()
            await super().usage(usage)

    script = model.script([bash("echo ran >> ran.txt")], [Text("Done.")])
    host, turn = Slow(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    engine = new_engine()
    running = asyncio.ensure_future(engine.run(turn, host))
    await host.resting.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await engine.close()
    host.answer(True)
    await new_engine().run(host.resumed(turn), host)
    assert (spec.workdir / "ran.txt").read_text() == "ran\n"


@pytest.mark.parametrize("calls", [1, 3])
async def test_results_that_a_cli_gave_waiting_calls_at_its_exit_are_dropped(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec, calls: int
) -> None:
    commands = [bash(f"echo {n} >> ran.txt") for n in range(calls)]
    script = model.script([Text("So. "), *commands], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    engine = new_engine(interrupt=30)  # how fast it hears an interrupt is not the question here
    for n in range(calls):
        await rest(engine, host.resumed(turn) if n else turn, host)
        assert await engine._processes["loop_1"].interrupt()
        await engine._processes["loop_1"].end()
        host.answer(True)
        engine = new_engine(interrupt=30)
    await engine.run(host.resumed(turn), host)
    assert (spec.workdir / "ran.txt").read_text() == "".join(f"{n}\n" for n in range(calls))
    assert [ok for ok, _ in host.results] == [True] * calls
    assert len(script.requests) == 2
    assert len(script.requests[1].tool_results()) == calls


async def test_an_allowed_call_that_was_changed_in_the_session_file_is_not_run(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    script = model.script([bash("touch harmless")], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    await rest(new_engine(), turn, host)
    await host.box.stop()
    for path in Path(spec.home).rglob("*.jsonl"):
        path.write_text(path.read_text().replace("touch harmless", "touch evil"))
    host.box = await new_sandbox()
    host.answer(True)
    await new_engine().run(host.resumed(turn), host)
    assert not (spec.workdir / "evil").exists()
    assert "User denied permission" in script.requests[1].tool_results()[0]


async def test_an_id_that_was_allowed_once_is_asked_again_when_the_model_repeats_it(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    first, second = bash("echo 1 >> n"), bash("echo 2 >> n")
    third = Tool(first.name, {"command": "echo 3 >> n"}, id=first.id)
    script = model.script([first], [second], [third], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    engine = new_engine()
    await rest(engine, turn, host)
    host.answer(True)
    await rest(engine, host.resumed(turn), host)
    await host.box.stop()
    host.box, engine = await new_sandbox(), new_engine()
    host.answer(True)
    await rest(engine, host.resumed(turn), host)
    assert (spec.workdir / "n").read_text() == "1\n2\n"
    assert host.pending != [first.id]
    host.answer(True)
    await engine.run(host.resumed(turn), host)
    assert (spec.workdir / "n").read_text() == "1\n2\n3\n"


async def test_a_session_file_that_is_gone_while_waiting_is_reported(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    from loopat_jupyter.loops.errors import TurnFailure

    script = model.script([bash("true")], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    await rest(new_engine(), turn, host)
    await host.box.stop()
    for path in Path(spec.home).rglob("*.jsonl"):
        path.unlink()
    host.box = await new_sandbox()
    host.answer(True)
    with pytest.raises(TurnFailure, match="record of this conversation is gone"):
        await new_engine().run(host.resumed(turn), host)
