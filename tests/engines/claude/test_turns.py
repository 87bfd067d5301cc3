"""A turn through the real CLI: what is said, what is run, what is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.builtin.engine import EngineLimits
from loopat_jupyter.engines.claude.engine import ClaudeEngine
from loopat_jupyter.loops.errors import TurnFailure
from loopat_jupyter.loops.ports.engine import Turn
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.none import UnconfinedTier
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings
from tests.engines.memory_host import MemoryHost, turn_of
from tests.support.mock_model import MockModel, Text, Thinking, Tool, bash
from tests.support.server import mock_provider

from .conftest import configure, instructions

pytestmark = pytest.mark.slow(8)

Start = Any


async def test_long_instructions_reach_the_agent_too(
    home: Path, new_sandbox: Start, model: MockModel
) -> None:
    async def long(turn: Turn) -> str:
        return "word " * 40_000 + "the very end"

    engine = ClaudeEngine(home, long)
    script = model.script([Text("ok")])
    await engine.run(turn_of(script.message()), MemoryHost(await new_sandbox()))
    await engine.close()
    assert "the very end" in script.requests[0].whole


async def test_a_turn_that_finds_no_end_is_ended(
    home: Path, new_sandbox: Start, model: MockModel
) -> None:
    engine = ClaudeEngine(home, instructions, EngineLimits(model_calls=3))
    script = model.script(*[[bash("true")]] * 5)
    with pytest.raises(TurnFailure) as failure:
        await engine.run(turn_of(script.message()), MemoryHost(await new_sandbox()))
    await engine.close()
    assert failure.value.event_code == "budget_exceeded"
    assert len(script.requests) == 3


async def test_it_runs_where_nothing_isolates_too(
    engine: ClaudeEngine, home: Path, spec: SandboxSpec, model: MockModel
) -> None:
    tier = UnconfinedTier(SandboxSettings(run_dir=home / "run"))
    sandbox = tier.create(spec)
    await sandbox.start()
    script = model.script([bash("pwd")], [Text("ok")])
    host = MemoryHost(sandbox)
    try:
        await engine.run(turn_of(script.message()), host)
    finally:
        await sandbox.stop()
        await asyncio.to_thread(tier.close)
    assert host.results == [(True, str(spec.workdir.resolve()))]


async def test_raw_messages_are_there_for_watchers(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel
) -> None:
    script = model.script([Text("ok")])
    host = MemoryHost(await new_sandbox())
    await engine.run(turn_of(script.message()), host)
    kinds = {one[1]["type"] for one in host.events if one[0] == "raw"}
    assert {"system", "stream_event", "assistant", "result"} <= kinds


async def test_the_model_is_asked_as_configured(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel, home: Path
) -> None:
    config = mock_provider(model.url)
    config["providers"]["mock"]["models"] = [{"id": "mock-1", "thinking": False}]
    configure(home, config)
    script = model.script([Text("ok")])
    await engine.run(turn_of(script.message()), MemoryHost(await new_sandbox()))
    assert script.requests[0].body.get("thinking", {"type": "disabled"}) == {"type": "disabled"}
    assert {request.body["model"] for request in script.requests} == {"mock-1"}


async def test_text_and_thinking_stream_and_come_once(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel
) -> None:
    script = model.script([Thinking("hmm"), Text("Hello "), Text("world.")])
    host = MemoryHost(await new_sandbox())
    await engine.run(turn_of(script.message()), host)
    assert host.visible == "Hello world."
    assert host.thought == "hmm"
    assert host.total.input_tokens == 10
    assert host.total.output_tokens == 7
    assert host.total.cost_usd is not None
    assert "These are the loop's instructions." in script.requests[0].whole


async def test_a_tool_runs_in_the_workdir_and_its_result_is_reported(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel
) -> None:
    script = model.script([bash("pwd; echo hi > out.txt"), bash("exit 3")], [Text("Done.")])
    host = MemoryHost(await new_sandbox())
    await engine.run(turn_of(script.message()), host)
    assert [ok for ok, _ in host.results] == [True, False]
    assert "/workdir" in host.results[0][1]
    assert script.requests[1].tool_results()[0].strip() == "/workdir"
    assert host.visible == "Done."


async def test_a_denial_reaches_the_model_and_the_turn_goes_on(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel
) -> None:
    script = model.script([bash("touch ran")], [Text("As you wish.")])
    host = MemoryHost(await new_sandbox(), deny={"Bash"})
    await engine.run(turn_of(script.message()), host)
    assert host.results[0][0] is False
    assert "User denied permission" in script.requests[1].tool_results()[0]
    assert host.visible == "As you wish."


async def test_tools_that_do_not_exist_or_lack_input_fail_and_the_turn_goes_on(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel
) -> None:
    script = model.script(
        [Tool("Nope", {"a": 1}), Tool("Read", {}), Tool("Bash", '{"command": ')], [Text("ok")]
    )
    host = MemoryHost(await new_sandbox())
    await engine.run(turn_of(script.message()), host)
    assert [ok for ok, _ in host.results] == [False, False, False]
