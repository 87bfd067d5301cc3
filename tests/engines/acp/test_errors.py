"""Agents that fail: one line that a person can act on, the loop usable again, nothing left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines import acp
from loopat_jupyter.engines.acp.engine import AcpEngine
from loopat_jupyter.engines.acp.process import AgentLimits
from loopat_jupyter.engines.agents.jsonlines import JsonLinesLimits
from loopat_jupyter.loops.errors import TurnFailure

from .conftest import Host, configure, processes, scripted, steps
from .test_turns import call

pytestmark = pytest.mark.slow(10)


async def recovers(engine: AcpEngine, host: Host, home: Path) -> None:
    """Nothing of the agent is left, and the next turn works."""
    assert await processes(host.sandbox_) == []
    configure(home, scripted())
    host.events.clear()
    await engine.run(steps(["text", "fine"], id="turn_9"), host)
    assert host.visible == "fine"


@pytest.fixture
def limits() -> AgentLimits:
    return AgentLimits(start=2.0, lines=JsonLinesLimits(line=1 << 20))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-agent", "acp"], r"no program 'no-such-agent' in the sandbox.*read_only_paths"),
        (["/etc/passwd"], r"could not be started: Permission denied"),
    ],
)
async def test_a_program_that_is_not_there(
    engine: AcpEngine, host: Host, home: Path, command: list[str], words: str
) -> None:
    configure(home, {"command": command, "asks": True})
    with pytest.raises(TurnFailure, match=words):
        await engine.run(steps(["text", "x"]), host)
    await recovers(engine, host, home)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("garbage", r"does not speak the Agent Client Protocol.*It said: I am no agent at all\."),
        ("dies", r"ended with exit code 3: KeyError: 'the reason' What it had done is kept"),
        ("silent", r"did not start within 2 s.*The last it said: thinking about it"),
        ("future", r"speaks version 99 of the Agent Client Protocol, and only version 1"),
    ],
)
async def test_an_agent_that_does_not_come_up(
    engine: AcpEngine, host: Host, home: Path, behaviour: str, words: str
) -> None:
    configure(home, scripted(behaviour))
    with pytest.raises(TurnFailure, match=words):
        await engine.run(steps(["text", "x"]), host)
    await recovers(engine, host, home)


async def test_an_agent_that_is_no_agent_and_ends_at_once(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, {"command": ["echo", "usage: echo"], "asks": True})
    with pytest.raises(TurnFailure, match=r"ended with exit code 0: usage: echo"):
        await engine.run(steps(["text", "x"]), host)
    await recovers(engine, host, home)


async def test_a_greeting_on_stdout_is_tolerated(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted("greeting"))
    await engine.run(steps(["raw", "a stray line"], ["raw", "[1]"], ["text", "hello"]), host)
    assert host.visible == "hello"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (["exit", 7], r"ended with exit code 7: last words"),
        (["run", "kill -9 $PPID"], r"was killed by signal 9: last words"),
        (["line", 2 << 20], r"sent a line of more than 1 MiB and was ended"),
    ],
)
async def test_an_agent_that_dies_or_exceeds_a_limit_in_its_turn(
    engine: AcpEngine, host: Host, home: Path, step: list[Any], words: str
) -> None:
    configure(home, scripted())
    turn = steps(["stderr", "x\n\x1b[31mlast words\x1b[0m\n\n"], ["text", "so far"],
                 call(status="in_progress"), step)  # fmt: skip
    with pytest.raises(TurnFailure, match=words):
        await engine.run(turn, host)
    assert host.visible.startswith("so far")
    await recovers(engine, host, home)


async def test_a_tool_of_an_agent_that_died_ends_too(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    turn = steps(call(status="in_progress"), ["run", "kill -9 $PPID; setsid sleep 1000"])
    with pytest.raises(TurnFailure, match="killed by signal 9"):
        await engine.run(turn, host)
    await recovers(engine, host, home)


async def test_death_is_noticed_where_a_child_holds_the_output_open(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    with pytest.raises(TurnFailure, match="killed by signal 9"):
        await engine.run(steps(["run", "sleep 1000 & disown; kill -9 $PPID"]), host)
    await host.sandbox_.run("pkill sleep", timeout=5)
    await recovers(engine, host, home)


async def test_a_flood_of_garbage_ends_the_agent(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted())
    with pytest.raises(TurnFailure, match="does not speak the Agent Client Protocol"):
        await engine.run(steps(["raw", "x" * 100_000]), host)
    await recovers(engine, host, home)


@pytest.mark.parametrize(
    "odd",
    [
        "[" * 100_000,
        '{"a": NaN}',
        '{"a": 1e999}',
        "nul\0l",
        "{}",
        '{"id": [1], "result": 1}',
        '{"id": 0, "error": "no object"}',
        '{"id": 4242, "result": {}}',
        '{"method": "session/update", "params": 1}',
        '{"method": "session/update", "params": {"update": []}}',
        '{"method": "no/such/notification", "params": {}}',
        '{"method": ["session/update"]}',
    ],
)
async def test_odd_lines_are_ignored(
    engine: AcpEngine, host: Host, home: Path, odd: str, limits: AgentLimits
) -> None:
    limits = AgentLimits(lines=JsonLinesLimits(garbage=1 << 20))
    engine._limits = limits
    configure(home, scripted())
    await engine.run(steps(["raw", odd], ["text", "still here"]), host)
    assert host.visible == "still here"


async def test_a_flood_on_stderr_does_not_disturb_the_turn(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    await engine.run(steps(["stderr", "noise\n" * 300_000], ["text", "done"]), host)
    assert host.visible == "done"


async def test_an_agent_that_wants_a_login(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted("login"))
    with pytest.raises(TurnFailure, match=r"wants a login.*\{model_url\}"):
        await engine.run(steps(["text", "x"]), host)
    await engine.close_loop("loop_1")
    await recovers(engine, host, home)


async def test_the_sandbox_is_lost_in_the_turn(engine: AcpEngine, host: Host, home: Path) -> None:
    import asyncio

    configure(home, scripted())
    running = asyncio.create_task(engine.run(steps(["text", "here"], ["wait"]), host))
    await host.wait_for("text", "here")
    await host.sandbox_.stop()
    with pytest.raises(TurnFailure, match="has lost its sandbox"):
        await running
    await engine.close_loop("loop_1")


@pytest.mark.parametrize("method", ["fs/read_text_file", "terminal/create", "_ext/x", "nonsense"])
async def test_a_method_that_is_not_offered_is_refused(
    engine: AcpEngine, host: Host, home: Path, method: str
) -> None:
    configure(home, scripted())
    await engine.run(steps(["request", method, {"sessionId": "s1", "path": "/etc/passwd"}]), host)
    assert host.visible == "-32601"


async def test_a_request_that_is_not_well_formed_is_refused(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    await engine.run(steps(["request", "session/request_permission", {"options": 1}]), host)
    assert host.visible == "-32602"
    assert host.asked == []


async def test_an_agent_that_falls_silent_in_its_turn(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    engine._limits = AgentLimits(silence=0.5)
    configure(home, scripted())
    with pytest.raises(TurnFailure, match=r"said nothing for 0.5 s.*send a message to continue"):
        await engine.run(steps(["text", "so far"], ["sleep"]), host)
    assert host.visible == "so far"
    await recovers(engine, host, home)


async def test_a_slow_tool_is_no_silence(engine: AcpEngine, host: Host, home: Path) -> None:
    engine._limits = AgentLimits(silence=0.2)
    configure(home, scripted())
    turn = steps(call(status="in_progress"), ["run", "sleep 0.8"], call(status="completed"))
    await engine.run(turn, host)
    assert host.results["t1"][0] is True


async def test_a_flood_of_requests_ends_the_agent(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    host.mode = "default"
    asides = [["ask aside", {"toolCallId": f"t{n}", "kind": "execute"}] for n in range(80)]
    with pytest.raises(TurnFailure, match="asked more than 64 things at once"):
        await engine.run(steps(*asides, ["sleep"], mode="default"), host)
    await recovers(engine, host, home)


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert acp.unavailable() is None
    monkeypatch.setattr(acp, "find_spec", lambda name: None)
    assert 'pip install "loopat-jupyter[acp]"' in str(acp.unavailable())


def test_the_sdk_is_not_imported_with_the_engine() -> None:
    import subprocess

    code = "import sys, loopat_jupyter.engines.acp.engine; print('acp.schema' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
