"""What a command was refused is asked about after it, and the agent is told what came of it."""

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


async def settled(host: MemoryHost, *ids: str) -> dict[str, str]:
    """The results of the calls as the model reads them, by id."""
    exchange = ModelStep(response(*ids))
    await host.journal(response_entry(exchange.response))
    await run_tool_calls(exchange, host, ToolLimits())
    return {name: result.text for name, result in exchange.results.items()}


async def resumed(host: MemoryHost) -> dict[str, str]:
    """The same after a restart, from what is in the journal."""
    (exchange,) = read_journal(json.loads(json.dumps(host.entries)))
    await run_tool_calls(exchange, host, ToolLimits())
    return {name: result.text for name, result in exchange.results.items()}


def asked(host: MemoryHost) -> list[tuple[str, dict[str, Any]]]:
    return [
        (one[1], one[3]) for one in host.said if one[:1] == ("permission",) and one[2] == "Network"
    ]


async def test_nobody_is_asked_where_nothing_was_refused(host: MemoryHost) -> None:
    assert await settled(host, "c1") == {"c1": "c1"}
    assert asked(host) == []


async def test_the_question_names_the_destination_and_the_tool(host: MemoryHost) -> None:
    host.box.network.refused = [B]
    await settled(host, "c1")
    (shown,) = [one for one in host.said if one[0] == "permission" and one[2] == "Network"]
    assert shown[1] == "c1/b.example:22"
    assert shown[3] == {"host": "b.example", "port": 22}
    assert shown[4]["kind"] == "network"
    assert shown[4]["title"] == "Reach b.example:22"
    assert "Bash" in shown[4]["reason"]


async def test_where_the_person_allows_it_the_agent_is_told_to_run_it_again(
    host: MemoryHost,
) -> None:
    host.box.network.refused = [A]
    host.ask = {"Network"}
    with pytest.raises(TurnSuspended):
        await settled(host, "c1")
    assert host.pending == ["c1/a.example:443"]
    assert host.results == [(True, "c1")]  # the command has run, once
    host.answer(True)
    text = (await resumed(host))["c1"]
    assert text.startswith("c1\n[network: The user allowed a.example:443.")
    assert "run the command again" in text
    assert len(host.results) == 1


@pytest.mark.parametrize("how", ["the person", "the mode"])
async def test_where_it_is_denied_the_agent_is_told_that(host: MemoryHost, how: str) -> None:
    host.box.network.refused = [A]
    if how == "the mode":
        host.deny = {"Network"}
        text = (await settled(host, "c1"))["c1"]
        assert "The mode does not allow it." in text
    else:
        host.ask = {"Network"}
        with pytest.raises(TurnSuspended):
            await settled(host, "c1")
        host.answer(False)
        text = (await resumed(host))["c1"]
    assert "[network: a.example:443 was refused" in text


async def test_several_destinations_are_asked_one_after_the_other(host: MemoryHost) -> None:
    host.box.network.refused = [A, B]
    host.ask = {"Network"}
    with pytest.raises(TurnSuspended):
        await settled(host, "c1")
    assert host.pending == ["c1/a.example:443"]
    host.answer(True)
    with pytest.raises(TurnSuspended):
        await resumed(host)
    assert host.pending == ["c1/b.example:22"]
    host.answer(False)
    text = (await resumed(host))["c1"]
    assert text.index("allowed a.example:443") < text.index("b.example:22 was refused")


async def test_what_was_settled_is_not_asked_again(host: MemoryHost) -> None:
    host.box.network.refused = [A]
    first = await settled(host, "c1")
    number = len(host.said)
    assert await resumed(host) == first
    assert len(host.said) == number


async def test_of_many_destinations_only_some_are_asked_about(host: MemoryHost) -> None:
    host.box.network.refused = [Destination(f"n{number}.example", 443) for number in range(8)]
    text = (await settled(host, "c1"))["c1"]
    assert len(asked(host)) == 5
    assert "3 more destinations" in text


async def test_an_ipv6_address_is_asked_about_without_brackets(host: MemoryHost) -> None:
    host.box.network.refused = [Destination("2606:4700::1", 443)]
    await settled(host, "c1")
    assert asked(host) == [("c1/[2606:4700::1]:443", {"host": "2606:4700::1", "port": 443})]
