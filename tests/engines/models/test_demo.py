"""The demo model, through the same turn loop as any other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loopat_jupyter.engines.builtin.engine import BuiltinEngine
from loopat_jupyter.loops.ports.engine import TurnSuspended
from tests.engines.memory_host import MemoryHost, turn_of


async def test_first_reply_says_what_it_is_and_later_ones_do_not(
    engine: BuiltinEngine, host: MemoryHost
) -> None:
    first = turn_of("hello")
    await engine.run(first, host)
    assert "demo" in host.visible
    assert "`!COMMAND`" in host.visible
    assert len([one for one in host.events if one[0] == "text"]) > 3
    assert host.total.input_tokens > 0
    assert host.total.output_tokens > 0
    later = MemoryHost(host.box, past=[host.ended(first)])
    await engine.run(turn_of("hello again", "turn_2"), later)
    assert "offline model" not in later.visible
    assert "`!ls" in later.visible


async def test_bash_runs_and_its_output_is_reported(
    engine: BuiltinEngine, host: MemoryHost, workdir: Path
) -> None:
    await engine.run(turn_of("!echo from-$((40+2)) > f; cat f"), host)
    assert (workdir / "f").read_text() == "from-42\n"
    assert host.results == [(True, "from-42")]
    assert "Bash finished" in host.visible
    assert "from-42" in host.visible
    kinds = [entry["type"] for entry in host.entries]
    assert kinds == ["response", "result", "response"]


async def test_a_failing_command_is_a_failed_result_and_not_the_end(
    engine: BuiltinEngine, host: MemoryHost
) -> None:
    await engine.run(turn_of("!echo no >&2; exit 3"), host)
    assert host.results == [(False, "no\nexit code 3")]
    assert "Bash failed" in host.visible


async def test_write_then_read(engine: BuiltinEngine, host: MemoryHost, workdir: Path) -> None:
    await engine.run(turn_of("write notes.txt: first line\nsecond: line"), host)
    assert (workdir / "notes.txt").read_text() == "first line\nsecond: line"
    reading = MemoryHost(host.box)
    await engine.run(turn_of("read notes.txt"), reading)
    assert reading.results == [(True, "     1\tfirst line\n     2\tsecond: line")]
    assert "second: line" in reading.visible


async def test_a_denied_command_does_not_run(
    engine: BuiltinEngine, host: MemoryHost, workdir: Path
) -> None:
    host.ask.add("Bash")
    turn = turn_of("!touch gone")
    with pytest.raises(TurnSuspended):
        await engine.run(turn, host)
    host.answer(False)
    await engine.run(host.resumed(turn), host)
    assert not (workdir / "gone").exists()
    assert "User denied permission" in host.results[0][1]
    assert "You denied it" in host.visible


async def test_a_command_that_the_mode_denies_is_not_reported_as_denied_by_the_user(
    engine: BuiltinEngine, host: MemoryHost, workdir: Path
) -> None:
    host.deny.add("Bash")
    await engine.run(turn_of("!touch gone"), host)
    assert not (workdir / "gone").exists()
    assert "User denied permission" in host.results[0][1]
    assert "permission mode does not let Bash run" in host.visible
    assert "You denied it" not in host.visible


async def test_ask_waits_and_goes_on_with_the_answer(
    engine: BuiltinEngine, host: MemoryHost
) -> None:
    turn = turn_of("ask Tea or coffee? | Tea | Coffee")
    with pytest.raises(TurnSuspended):
        await engine.run(turn, host)
    (asked,) = next(one[2] for one in host.events if one[0] == "question")
    assert asked.id == "q1"
    assert [option.label for option in asked.options] == ["Tea", "Coffee"]
    assert host.results == []
    host.answer({"q1": "Coffee"})
    await engine.run(host.resumed(turn), host)
    assert host.results == [(True, "The user answered: Coffee")]
    assert "Coffee" in host.visible


async def test_think_streams_thinking(engine: BuiltinEngine, host: MemoryHost) -> None:
    await engine.run(turn_of("think about one two three four five six"), host)
    assert host.thought == "about one two three four five six"
    assert len([one for one in host.events if one[0] == "thinking"]) > 1


async def test_count_streams_and_stops_when_cancelled(
    engine: BuiltinEngine, host: MemoryHost
) -> None:
    await engine.run(turn_of("count 3"), host)
    assert host.visible.endswith("1\n2\n3\n")
    slow = MemoryHost(host.box)
    task = asyncio.create_task(engine.run(turn_of("count 9999"), slow))
    async with asyncio.timeout(20):
        await slow.text_shown.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("said", ["count lots", "count 99999999999", "ask me", "!", "read", "  "])
async def test_what_it_does_not_understand_gets_a_short_answer(
    engine: BuiltinEngine, host: MemoryHost, said: str
) -> None:
    await engine.run(turn_of(said), host)
    assert host.visible
    assert host.results == []
