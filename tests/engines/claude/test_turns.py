"""A turn through the real CLI: what is said, what is run, what is told."""

from __future__ import annotations

from typing import Any

from loopat_jupyter.engines.claude.engine import ClaudeEngine
from tests.engines.memory_host import MemoryHost, turn_of
from tests.support.mock_model import MockModel, Text, Thinking, Tool, bash

Start = Any


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


async def test_a_tool_runs_in_the_workdir_and_its_result_is_told(
    engine: ClaudeEngine, new_sandbox: Start, model: MockModel
) -> None:
    script = model.script([bash("pwd; echo hi > out.txt"), bash("exit 3")], [Text("Done.")])
    host = MemoryHost(await new_sandbox())
    await engine.run(turn_of(script.message()), host)
    assert [ok for ok, _ in host.results] == [True, False]
    assert "/workdir" in host.results[0][1]
    assert script.requests[1].tool_results()[0].strip() == "/workdir"
    assert host.visible == "Done."


async def test_deny_is_told_and_the_turn_goes_on(
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
