"""Interrupting: within a fifth of a second, and what the turn waited for is dead."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from loopat_jupyter.engines.acp.engine import AcpEngine
from loopat_jupyter.loops.ports.sandbox import Sandbox

from .conftest import Host, configure, processes, scripted, steps
from .test_turns import call


async def interrupted(running: asyncio.Task[None]) -> float:
    began = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return time.monotonic() - began


async def test_an_agent_that_obeys_the_cancel_lives(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    turn = steps(["text", "here"], ["wait"])
    running = asyncio.create_task(engine.run(turn, host))
    await host.wait_for("text", "here")
    before = await processes(host.sandbox_)
    await interrupted(running)
    assert await processes(host.sandbox_) == before
    host.next_turn(turn, "interrupted")
    await engine.run(steps(["prompt"], id="turn_2"), host)
    assert "the user interrupted it" in host.visible


async def test_the_tool_that_runs_dies_also_where_the_agent_lets_it_live(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    turn = steps(call(status="in_progress"), ["run", "sleep 1000; sleep 1001"])
    running = asyncio.create_task(engine.run(turn, host))
    await host.wait_for("text", "running")
    before = await processes(host.sandbox_)
    assert len(before) > 1
    await interrupted(running)
    assert await processes(host.sandbox_) == before[:1]


async def test_it_is_the_same_without_isolation(
    engine: AcpEngine, open_sandbox: Sandbox, home: Path
) -> None:
    configure(home, scripted())
    host = Host(open_sandbox)
    turn = steps(
        call(status="in_progress"),
        ["env", "HOME"],
        ["run", "echo $$ > pid; sleep 1000; sleep 1001"],
    )
    running = asyncio.create_task(engine.run(turn, host))
    await host.wait_for("text", "running")
    assert open_sandbox.home in host.visible
    pid = await open_sandbox.run("until [ -s pid ]; do sleep 0.01; done; cat pid", timeout=10)
    await interrupted(running)
    # Its parent, the agent, may not have looked after it yet; then it is a zombie.
    state = await open_sandbox.run(f"cut -d' ' -f3 /proc/{pid.output.strip()}/stat", timeout=10)
    assert state.exit_code != 0 or state.output.strip() == "Z"
    host.next_turn(turn, "interrupted")
    await engine.run(steps(["text", "on"], id="turn_2"), host)
    assert host.visible == "on"


async def test_a_background_process_lives_on(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted())
    there = "until grep -q sleep /proc/$!/comm; do :; done"
    first = steps(["run", f"setsid sleep 1002 > /dev/null 2>&1 < /dev/null & {there}"])
    await engine.run(first, host)
    host.next_turn(first)
    second = steps(call(status="in_progress"), ["run", "sleep 1000"], id="turn_2")
    running = asyncio.create_task(engine.run(second, host))
    await host.wait_for("text", "running")
    await interrupted(running)
    left = await processes(host.sandbox_)
    assert any("sleep 1002" in line for line in left)
    assert not any("sleep 1000" in line for line in left)


async def test_an_agent_that_ignores_the_cancel_is_killed_with_all_it_started(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    turn = steps(
        ["run", "setsid sleep 1003 & exit 0"],
        call(status="in_progress"),
        ["deaf"],
        ["text", "x"],
        ["sleep"],
    )
    running = asyncio.create_task(engine.run(turn, host))
    await host.wait_for("text", "x")
    await interrupted(running)
    await engine.wait_idle("loop_1")
    left = await processes(host.sandbox_)
    assert all("sleep 1003" in line for line in left), left
    host.next_turn(turn, "interrupted")
    again = steps(["text", "new life"], id="turn_2")
    await engine.run(again, host)
    assert host.visible == "new life"


async def test_an_interrupt_cancels_the_permission_request(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    host.mode = "default"
    turn = steps(["ask", {"toolCallId": "t1", "kind": "execute"}], mode="default")
    running = asyncio.create_task(engine.run(turn, host))
    await host.wait_for("asked")
    await interrupted(running)
    host.next_turn(turn, "interrupted")
    await engine.run(steps(["text", "on"], id="turn_2", mode="default"), host)
    assert host.visible == "on"


async def test_what_the_agent_says_late_is_not_in_the_next_turn(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    turn = steps(call("late", kind="execute", status="in_progress"), ["text", "x"], ["wait"])
    running = asyncio.create_task(engine.run(turn, host))
    await host.wait_for("text", "x")
    await interrupted(running)
    host.next_turn(turn, "interrupted")
    late = ["update", {"sessionUpdate": "tool_call_update", "toolCallId": "late",
                       "status": "completed"}]  # fmt: skip
    await engine.run(steps(late, ["text", "y"], id="turn_2"), host)
    assert host.events == [("text", "y")]


@pytest.mark.parametrize("hears", ["wait", "deaf"])
async def test_it_takes_no_longer_than_it_may(
    engine: AcpEngine, host: Host, home: Path, hears: str
) -> None:
    """The bound is the contract's; what it really takes is printed for whoever measures."""
    configure(home, scripted())
    then = [["text", "x"], ["wait"]] if hears == "wait" else [["deaf"], ["text", "x"], ["sleep"]]
    running = asyncio.create_task(engine.run(steps(call(status="in_progress"), *then), host))
    await host.wait_for("text", "x")
    took = await interrupted(running)
    print(f"interrupt ({hears}): {took * 1000:.0f} ms")
    assert took < 5
