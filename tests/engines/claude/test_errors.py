"""Agents that misbehave: one line a person can act on, nothing left running, the loop usable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines import claude
from loopat_jupyter.engines.claude.engine import ClaudeEngine
from loopat_jupyter.loops.errors import TurnFailure
from loopat_jupyter.loops.ports.sandbox import Sandbox, SandboxSpec
from tests.engines.memory_host import MemoryHost, turn_of
from tests.support.mock_model import Fail, Gate, Hold, MockModel, Text, bash
from tests.support.server import mock_provider

from .conftest import KEY, configure

pytestmark = pytest.mark.slow(25)

Start = Any
NewEngine = Callable[..., ClaudeEngine]
BAD = Path(__file__).with_name("bad_cli.py")


async def nothing_runs(sandbox: Sandbox) -> bool:
    found = await sandbox.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", timeout=10)
    return "bad_cli" not in found.output and "stream-json" not in found.output


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("old", "unknown option"),
        ("silent", "does not answer"),
        ("garbage", "not its protocol"),
        ("line", "more than 32 MiB"),
        ("flood", "nobody understands"),
        ("shapes", "not its protocol"),
        ("dies", "Segmentation fault, they say"),
        ("mute", "says nothing"),
    ],
)
async def test_a_misbehaving_program_is_one_clear_line_and_leaves_no_process(
    new_engine: NewEngine, new_sandbox: Start, spec: SandboxSpec, mode: str, said: str
) -> None:
    (spec.workdir / "bad_cli.py").write_text(BAD.read_text())
    engine = new_engine(("python3", "/workdir/bad_cli.py", mode), start=2.0, silence=2.0)
    host = MemoryHost(await new_sandbox())
    with pytest.raises(TurnFailure) as failure:
        await engine.run(turn_of("hello"), host)
    assert said in failure.value.message
    assert "\n" not in failure.value.message
    assert failure.value.event_code == "agent_error"
    await engine.close()
    assert await nothing_runs(host.box)


async def test_a_program_that_ignores_an_interrupt_is_killed(
    new_engine: NewEngine, new_sandbox: Start, spec: SandboxSpec, model: MockModel
) -> None:
    """The bound is the contract's; what it really takes is printed for whoever measures."""
    (spec.workdir / "bad_cli.py").write_text(BAD.read_text())
    engine = new_engine(("python3", "/workdir/bad_cli.py", "deaf"))
    host = MemoryHost(await new_sandbox())
    running = asyncio.ensure_future(engine.run(turn_of("hello"), host))
    await host.text_shown.wait()
    begun = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    print(f"interrupt (deaf): {(time.monotonic() - begun) * 1000:.0f} ms")
    await engine.close()
    assert await nothing_runs(host.box)


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert claude.unavailable() is None
    monkeypatch.setattr(claude.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'loopat-jupyter[claude]'" in str(claude.unavailable())


async def test_after_one_that_died_the_loop_works_again(
    new_engine: NewEngine, new_sandbox: Start, spec: SandboxSpec, model: MockModel
) -> None:
    (spec.workdir / "bad_cli.py").write_text(BAD.read_text())
    host = MemoryHost(await new_sandbox())
    turn = turn_of("hello")
    with pytest.raises(TurnFailure):
        await new_engine(("python3", "/workdir/bad_cli.py", "dies")).run(turn, host)
    script = model.script([Text("Here I am.")])
    after = MemoryHost(host.box, past=[host.ended(turn, "error", "agent_error")])
    await new_engine().run(turn_of(script.message(), "turn_2"), after)
    assert after.visible == "Here I am."
    assert "half" in script.requests[0].whole


async def test_a_missing_program_says_what_to_install(
    new_engine: NewEngine, new_sandbox: Start
) -> None:
    host = MemoryHost(await new_sandbox())
    with pytest.raises(TurnFailure, match=r"could not be started.*pip install"):
        await new_engine(("/no/such/claude",)).run(turn_of("hello"), host)


async def test_a_program_that_is_killed_in_the_turn_is_reported(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    background = bash("sleep 7711 > /dev/null & echo")
    script = model.script([background], [bash("kill -9 $PPID; setsid sleep 7712")], [Text("never")])
    host = MemoryHost(await new_sandbox())
    with pytest.raises(TurnFailure, match="stopped: it was killed"):
        await engine.run(turn_of(script.message()), host)
    found = (await host.box.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '", timeout=10)).output
    assert "sleep 7712" not in found
    assert "sleep 7711" in found


async def test_a_sandbox_that_ends_in_the_turn_is_reported(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel
) -> None:
    script = model.script([Text("Wait. "), Hold(Gate())])
    host = MemoryHost(await new_sandbox())
    running = asyncio.ensure_future(engine.run(turn_of(script.message()), host))
    await host.text_shown.wait()
    await host.box.stop()
    with pytest.raises(TurnFailure, match="its sandbox ended"):
        await running
    script = model.script([Text("Here.")])
    after = MemoryHost(await new_sandbox())
    await engine.run(turn_of(script.message(), "turn_2"), after)
    assert after.visible == "Here."


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusing_provider_is_quoted_without_the_key(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel, status: int
) -> None:
    script = model.script(*[Fail(status, f"no such key: {KEY}")] * 3)
    host = MemoryHost(await new_sandbox())
    with pytest.raises(TurnFailure) as failure:
        await engine.run(turn_of(script.message()), host)
    assert failure.value.message == (
        f"mock/mock-1 did not answer: no such key: {'*' * len(KEY)} (HTTP status {status})"
    )
    assert host.visible == ""
    assert len(script.requests) == 1


async def test_an_unreachable_provider_is_reported(
    engine: ClaudeEngine, new_sandbox: Start, home: Path
) -> None:
    configure(home, mock_provider("http://127.0.0.1:9"))
    host = MemoryHost(await new_sandbox())
    begun = time.monotonic()
    with pytest.raises(TurnFailure, match=r"mock/mock-1 did not answer: Connection refused"):
        await engine.run(turn_of("hello"), host)
    assert time.monotonic() - begun < 60


async def test_a_provider_of_another_api_names_the_engine_to_use(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel, home: Path
) -> None:
    configure(home, mock_provider(model.url, api="openai"))
    host = MemoryHost(await new_sandbox())
    with pytest.raises(TurnFailure, match=r'LoopatExtension\.engine to "builtin"'):
        await engine.run(turn_of("hello"), host)


async def test_the_demo_cannot_be_used_by_an_agent_in_the_sandbox(
    engine: ClaudeEngine, new_sandbox: Start, home: Path
) -> None:
    (home / "config.json").unlink()
    with pytest.raises(TurnFailure, match=r'LoopatExtension\.engine to "builtin"'):
        await engine.run(turn_of("hello"), MemoryHost(await new_sandbox()))
