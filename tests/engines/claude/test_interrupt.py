"""Interrupting: at once, with the tool, without what the agent left in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from loopat_jupyter.engines.claude.engine import ClaudeEngine
from loopat_jupyter.loops.ports.engine import PastTurn, TurnSuspended
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from tests.engines.memory_host import MemoryHost, turn_of
from tests.support.mock_model import Gate, Hold, MockModel, Text, bash

pytestmark = pytest.mark.slow(12)

Start = Any
NewEngine = Callable[..., ClaudeEngine]


async def cancel(running: asyncio.Future[None]) -> float:
    """Interrupt a turn; the seconds it took."""
    begun = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return time.monotonic() - begun


@pytest.mark.parametrize("hears", [True, False])
async def test_a_running_tool_ends_and_background_processes_live(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec, hears: bool
) -> None:
    engine = new_engine(interrupt=30.0 if hears else 0.0)  # one that does not hear is killed
    box, past = await new_sandbox(), list[PastTurn]()
    first = turn_of(model.script([bash("sleep 7701 & echo $!")], [Text("a")]).message())
    host = MemoryHost(box)
    await engine.run(first, host)
    past.append(host.ended(first))
    script = model.script([bash("mkfifo p; echo up > p; setsid sleep 7702; touch ended")])
    host = MemoryHost(box, past=past)
    second = turn_of(script.message(), "turn_2")
    running = asyncio.ensure_future(engine.run(second, host))
    ready = await box.run("until [ -p p ]; do :; done; cat p", timeout=20)
    assert ready.output == "up\n"
    agent = engine._processes["loop_1"]
    took = await cancel(running)
    print(f"interrupt (a tool runs): {took * 1000:.0f} ms")
    # The CLI says that the turn is over when it has sent the signal: the tool dies meanwhile.
    listed = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    gone = f"while {listed} | grep -q 'sleep 770[2]'; do :; done"
    assert not (await box.run(gone, timeout=10)).timed_out
    found = (await box.run(listed, timeout=10)).output
    assert "sleep 7701" in found
    assert "sleep 7702" not in found
    assert (engine._processes.get("loop_1") is agent) is hears
    past.append(host.ended(second, "interrupted"))
    after = model.script([Text("On we go.")])
    host = MemoryHost(box, past=past)
    await engine.run(turn_of(after.message("next"), "turn_3"), host)
    assert host.visible == "On we go."
    assert "interrupted" in after.requests[0].whole
    assert (
        "sleep 7701"
        in (await box.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", timeout=10)).output
    )
    assert not (spec.workdir / "ended").exists()


async def test_a_streaming_answer_ends_and_the_session_goes_on(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel
) -> None:
    box = await new_sandbox()
    host, cut = MemoryHost(box), turn_of(model.script([Text("half"), Hold(Gate())]).message())
    running = asyncio.ensure_future(engine.run(cut, host))
    await host.text_shown.wait()
    await cancel(running)
    script = model.script([Text("whole")])
    after = MemoryHost(box, past=[host.ended(cut, "interrupted")])
    await engine.run(turn_of(script.message(), "turn_2"), after)
    assert after.visible == "whole"
    assert "half" in script.requests[0].whole


async def test_interrupting_at_any_moment_leaves_a_loop_that_works(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel
) -> None:
    box, past = await new_sandbox(), list[PastTurn]()
    for number in range(12):
        script = model.script([Text("a "), bash("echo b; sleep 0.02")], [Text("c")])
        host = MemoryHost(box, past=list(past))
        one = turn_of(script.message(), f"turn_{number}")
        running = asyncio.ensure_future(engine.run(one, host))
        await asyncio.wait([running], timeout=number * 0.04)
        if running.done():
            running.result()
            past.append(host.ended(one))
        else:
            await cancel(running)
            past.append(host.ended(one, "interrupted"))
    script = model.script([Text("still here")])
    host = MemoryHost(box, past=past)
    await engine.run(turn_of(script.message(), "turn_last"), host)
    assert host.visible == "still here"


async def test_a_waiting_turn_that_was_interrupted_does_not_run_its_call(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    box = await new_sandbox()
    script = model.script([bash("touch ran")], [Text("never")])
    host, waiting = MemoryHost(box, ask={"Bash"}), turn_of(script.message())
    with pytest.raises(TurnSuspended):
        await engine.run(waiting, host)
    agent = engine._processes["loop_1"]
    after = MemoryHost(box, past=[host.ended(waiting, "interrupted")])
    script = model.script([Text("Something else, then.")])
    await engine.run(turn_of(script.message(), "turn_2"), after)
    assert after.visible == "Something else, then."
    assert engine._processes["loop_1"] is agent
    assert not (spec.workdir / "ran").exists()
