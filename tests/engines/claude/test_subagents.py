"""Sub-agents: their calls pass the gate, their words are not the turn's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loopat_jupyter.engines.claude.engine import ClaudeEngine
from loopat_jupyter.loops.ports.engine import TurnSuspended
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from tests.engines.memory_host import MemoryHost, turn_of
from tests.support.mock_model import MockModel, Script, Text, Tool, bash

pytestmark = pytest.mark.slow(5)

Start = Any
NewEngine = Callable[..., ClaudeEngine]


def delegate(inner: Script) -> Tool:
    return Tool(
        "Agent",
        {"description": "look", "prompt": inner.message(), "subagent_type": "general-purpose"},
    )


async def test_its_calls_are_announced_and_asked_and_its_text_is_not_shown(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel
) -> None:
    inner = model.script([Text("inner words "), bash("echo inside")], [Text("inner end")])
    script = model.script([Text("Delegating. "), delegate(inner)], [Text("Done.")])
    host = MemoryHost(await new_sandbox())
    await engine.run(turn_of(script.message()), host)
    assert host.visible == "Delegating. Done."
    assert [one[2] for one in host.events if one[0] == "call"] == ["Agent", "Bash"]
    assert [one[2] for one in host.events if one[0] == "permission"] == ["Agent", "Bash"]
    assert [ok for ok, _ in host.results] == [True, True]
    assert "inner end" in script.requests[1].tool_results()[0]
    assert host.total.output_tokens == 4 * 7


async def test_a_call_of_a_sub_agent_waits_in_its_cli(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    inner = model.script([bash("touch inner")], [Text("inner end")])
    script = model.script([delegate(inner)], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    with pytest.raises(TurnSuspended):
        await engine.run(turn, host)
    host.answer(True)
    await engine.run(host.resumed(turn), host)
    assert (spec.workdir / "inner").exists()
    assert host.visible == "Done."


async def test_a_sub_agent_that_ended_while_it_waited_is_reported_to_the_model(
    new_engine: NewEngine, new_sandbox: Start, model: MockModel, spec: SandboxSpec
) -> None:
    inner = model.script([bash("touch inner")], [Text("inner end")])
    script = model.script([delegate(inner)], [Text("Done.")])
    host, turn = MemoryHost(await new_sandbox(), ask={"Bash"}), turn_of(script.message())
    with pytest.raises(TurnSuspended):
        await new_engine().run(turn, host)
    await host.box.stop()
    host.box = await new_sandbox()
    host.answer(True)
    await new_engine().run(host.resumed(turn), host)
    assert not (spec.workdir / "inner").exists()
    assert [ok for ok, _ in host.results] == [False, False]
    assert "Start it again" in script.requests[1].tool_results()[0]
    assert host.visible == "Done."
