"""A command was refused a destination: the person is asked, and the agent told what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.builtin import BuiltinEngine
from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.ports import CommandResult, Turn, TurnSuspended

from . import mock_provider as mock
from .conftest import configure
from .memory_host import DirectorySandbox, MemoryHost, turn_of
from .mock_provider import MockProvider
from .test_turn_loop import bash, calls, end


class RefusedSandbox(DirectorySandbox):
    """Its commands are refused what they name: ``reach HOST:PORT …``."""

    ran: list[str]

    def __init__(self, workdir: Path) -> None:
        super().__init__(workdir)
        self.ran = []

    async def run(self, command: str, *, timeout: float, background: bool = False) -> CommandResult:
        self.ran.append(command)
        _, *names = command.split()
        for name in names:
            host, _, port = name.rpartition(":")
            self.network.refused.append(Destination(host, int(port)))
        return CommandResult(7 if names else 0, "tried" if names else "fine")


@pytest.fixture
async def host(workdir: Path) -> MemoryHost:
    return MemoryHost(RefusedSandbox(workdir))


def told(provider: MockProvider, request: int = 1) -> str:
    """What the model was told in that request's last message."""
    return json.dumps(provider.asked[request].body["messages"][-1]["content"])


async def begun(
    engine: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, *commands: str
) -> Turn:
    """A turn whose first answer runs these commands; it waits for a person."""
    configure(home, provider, "anthropic")
    asked = [bash(f"call{number}", command) for number, command in enumerate(commands)]
    provider.replies = mock.replies(calls(*asked), end())
    turn = turn_of("go")
    with pytest.raises(TurnSuspended):
        await engine.run(turn, host)
    return turn


async def test_the_person_is_asked_after_the_command_and_the_agent_runs_it_anew(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    host.ask = {"Network"}
    turn = await begun(quick, host, provider, home, "reach a.test:443")
    assert host.results == [(False, "tried\nexit code 7")]
    (asked,) = [one for one in host.said if one[0] == "permission" and one[2] == "Network"]
    _, tool_use_id, _, given, shown = asked
    assert tool_use_id == "call0/a.test:443"
    assert given == {"host": "a.test", "port": 443}
    assert shown == {
        "kind": "network",
        "title": "Reach a.test:443",
        "display_name": "Network",
        "reason": "Bash tried to, and it is not on the loop's allow-list.",
    }
    assert len(provider.asked) == 1

    host.answer(True)
    await quick.run(host.resumed(turn), host)
    assert "The user allowed a.test:443." in told(provider)
    assert "run the command again" in told(provider)
    assert host.box.ran == ["reach a.test:443"]  # nothing is run twice by itself
    assert host.visible == "Done."


async def test_a_denial_is_told_and_the_turn_goes_on(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    host.ask = {"Network"}
    turn = await begun(quick, host, provider, home, "reach a.test:443")
    host.answer(False)
    await quick.run(host.resumed(turn), host)
    assert "a.test:443 was refused" in told(provider)
    assert "allowed" not in told(provider)
    assert host.visible == "Done."


async def test_a_mode_that_asks_nobody_tells_the_agent_why(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    host.deny = {"Network"}
    provider.replies = mock.replies(calls(bash("a", "reach a.test:443")), end())
    await quick.run(turn_of("go"), host)
    assert "[network: a.test:443 was refused: The mode does not allow it.]" in told(provider)


async def test_several_destinations_are_asked_one_after_the_other(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    host.ask = {"Network"}
    turn = await begun(quick, host, provider, home, "reach b.test:443 a.test:80", "true")
    assert host.pending == ["call0/b.test:443"]
    host.answer(True)
    with pytest.raises(TurnSuspended):
        await quick.run(host.resumed(turn), host)
    assert host.pending == ["call0/a.test:80"]
    host.answer(False)
    await quick.run(host.resumed(turn), host)
    said = told(provider)
    assert said.index("allowed b.test:443") < said.index("a.test:80 was refused")
    assert host.box.ran == ["reach b.test:443 a.test:80", "true"]
    assert len(provider.asked) == 2


async def test_every_call_of_an_answer_is_settled_before_the_model_is_asked(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    host.ask = {"Network"}
    turn = await begun(quick, host, provider, home, "reach a.test:443", "reach b.test:443")
    asked = set()
    while host.pending:
        asked.update(host.pending)
        host.answer(True)
        try:
            await quick.run(host.resumed(turn), host)
        except TurnSuspended:
            continue
    assert {one.partition("/")[2] for one in asked} == {"a.test:443", "b.test:443"}
    assert len(provider.asked) == 2


async def test_what_was_settled_before_a_restart_is_not_asked_again(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    """The journal has the note, and the model is told it again in the next turn."""
    host.ask = {"Network"}
    turn = await begun(quick, host, provider, home, "reach a.test:443")
    host.answer(True)
    await quick.run(host.resumed(turn), host)
    kinds = [entry["type"] for entry in host.entries]
    assert kinds == ["response", "result", "network", "response"]
    before = len(host.said)
    again = MemoryHost(host.box, past=[host.ended(turn)])
    provider.replies = mock.replies(end("Still here."))
    await quick.run(turn_of("and now?", "turn_2"), again)
    assert len(host.said) == before
    assert [one for one in again.said if one[0] == "permission"] == []
    assert "The user allowed a.test:443." in json.dumps(provider.asked[-1].body["messages"])


async def test_a_scan_is_no_wish_list(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    host.deny = {"Network"}
    configure(home, provider, "anthropic")
    names = " ".join(f"h{number}.test:443" for number in range(9))
    provider.replies = mock.replies(calls(bash("a", f"reach {names}")), end())
    await quick.run(turn_of("go"), host)
    asked = [one for one in host.said if one[0] == "permission" and one[2] == "Network"]
    assert len(asked) == 5
    assert "refused 4 more destinations" in told(provider)


async def test_a_command_that_was_refused_nothing_asks_nobody(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = mock.replies(calls(bash("a", "true")), end())
    await quick.run(turn_of("go"), host)
    assert [one for one in host.said if one[0] == "permission" and one[2] == "Network"] == []
    assert [entry["type"] for entry in host.entries] == ["response", "result", "response"]
    assert "refused" not in host.entries[1]


async def test_a_denied_command_is_not_asked_about(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    host.deny = {"Bash"}
    provider.replies = mock.replies(calls(bash("a", "reach a.test:443")), end())
    await quick.run(turn_of("go"), host)
    said: list[Any] = [one[2] for one in host.said if one[0] == "permission"]
    assert said == ["Bash"]
