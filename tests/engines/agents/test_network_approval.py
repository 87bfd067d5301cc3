"""A person is asked about the destinations that a command was refused, after the command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loopat_jupyter.engines.builtin.tool_calls import run_tool_calls
from loopat_jupyter.engines.models.messages import (
    ModelReply,
    ModelStep,
    ReplyToolCall,
    read_journal,
    response_entry,
)
from loopat_jupyter.engines.tools.outcome import ToolLimits
from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.ports.engine import TurnSuspended
from tests.engines.memory_host import MemoryHost

A, B = Destination("a.example", 443), Destination("b.example", 22)


def response(*ids: str) -> ModelReply:
    return ModelReply(
        tuple(ReplyToolCall(name, "Bash", {"command": f"echo {name}"}) for name in ids)
    )


async def run_calls(host: MemoryHost, *ids: str) -> dict[str, str]:
    """The results of the calls as the model reads them, by id."""
    step = ModelStep(response(*ids))
    await host.journal(response_entry(step.response))
    await run_tool_calls(step, host, ToolLimits())
    return {name: result.text for name, result in step.results.items()}


async def run_again(host: MemoryHost) -> dict[str, str]:
    """The same after a restart, from what is in the journal."""
    (step,) = read_journal(json.loads(json.dumps(host.entries)))
    await run_tool_calls(step, host, ToolLimits())
    return {name: result.text for name, result in step.results.items()}


def asked(host: MemoryHost) -> list[tuple[str, dict[str, Any]]]:
    return [
        (one[1], one[3])
        for one in host.events
        if one[:1] == ("permission",) and one[2] == "Network"
    ]


async def test_nobody_is_asked_where_nothing_was_refused(host: MemoryHost) -> None:
    assert await run_calls(host, "c1") == {"c1": "c1"}
    assert asked(host) == []


async def test_the_question_names_the_destination_and_the_tool(host: MemoryHost) -> None:
    host.box.network.refused = [B]
    await run_calls(host, "c1")
    (shown,) = [one for one in host.events if one[0] == "permission" and one[2] == "Network"]
    assert shown[1] == "c1/b.example:22"
    assert shown[3] == {"host": "b.example", "port": 22}
    assert shown[4]["kind"] == "network"
    assert shown[4]["title"] == "Reach b.example:22"
    assert "Bash" in shown[4]["reason"]


async def test_an_allowed_destination_is_reported_with_the_advice_to_run_the_command_again(
    host: MemoryHost,
) -> None:
    host.box.network.refused = [A]
    host.ask = {"Network"}
    with pytest.raises(TurnSuspended):
        await run_calls(host, "c1")
    assert host.pending == ["c1/a.example:443"]
    assert host.results == [(True, "c1")]  # the command has run, once
    host.answer(True)
    text = (await run_again(host))["c1"]
    assert text.startswith("c1\n[network: The user allowed a.example:443.")
    assert "run the command again" in text
    assert len(host.results) == 1


@pytest.mark.parametrize("how", ["the person", "the mode"])
async def test_a_denied_destination_is_reported_to_the_agent(host: MemoryHost, how: str) -> None:
    host.box.network.refused = [A]
    if how == "the mode":
        host.deny = {"Network"}
        text = (await run_calls(host, "c1"))["c1"]
        assert "The mode does not allow it." in text
    else:
        host.ask = {"Network"}
        with pytest.raises(TurnSuspended):
            await run_calls(host, "c1")
        host.answer(False)
        text = (await run_again(host))["c1"]
    assert "[network: a.example:443 was refused" in text


async def test_several_destinations_are_asked_one_after_the_other(host: MemoryHost) -> None:
    host.box.network.refused = [A, B]
    host.ask = {"Network"}
    with pytest.raises(TurnSuspended):
        await run_calls(host, "c1")
    assert host.pending == ["c1/a.example:443"]
    host.answer(True)
    with pytest.raises(TurnSuspended):
        await run_again(host)
    assert host.pending == ["c1/b.example:22"]
    host.answer(False)
    text = (await run_again(host))["c1"]
    assert text.index("allowed a.example:443") < text.index("b.example:22 was refused")


async def test_a_destination_that_was_decided_is_not_asked_about_again(host: MemoryHost) -> None:
    host.box.network.refused = [A]
    first = await run_calls(host, "c1")
    number = len(host.events)
    assert await run_again(host) == first
    assert len(host.events) == number


async def test_only_the_first_destinations_are_asked_about(host: MemoryHost) -> None:
    host.box.network.refused = [Destination(f"n{number}.example", 443) for number in range(8)]
    text = (await run_calls(host, "c1"))["c1"]
    assert len(asked(host)) == 5
    assert "3 more destinations" in text


async def test_an_ipv6_address_is_asked_about_without_brackets(host: MemoryHost) -> None:
    host.box.network.refused = [Destination("2606:4700::1", 443)]
    await run_calls(host, "c1")
    assert asked(host) == [("c1/[2606:4700::1]:443", {"host": "2606:4700::1", "port": 443})]
