"""An agent's conversation: its session is loaded where it can be, and sent as text elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

from loopat_jupyter.engines.acp.engine import AcpEngine
from loopat_jupyter.engines.agents import catch_up
from loopat_jupyter.loops.ports.engine import PastTurn

from .conftest import Host, configure, scripted, steps


async def test_a_session_is_loaded_and_what_it_replays_is_not_shown_again(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted("well", "loads"))
    first = steps(["text", "one"])
    await engine.run(first, host)
    assert host.entries[0]["session"] == "s1"
    host.next_turn(first)
    await engine.close_loop("loop_1")
    second = steps(["prompt"], id="turn_2")
    await engine.run(second, host)
    assert host.events == [("text", json.dumps([second.content]))]


async def test_an_agent_that_cannot_load_gets_the_conversation_as_text(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    first = steps(["text", "forty-two"])
    await engine.run(first, host)
    host.next_turn(first)
    await engine.close_loop("loop_1")
    second = steps(["prompt"], id="turn_2")
    await engine.run(second, host)
    instructions, conversation, message = json.loads(host.visible)
    assert "Be brief." in instructions
    assert f"User: {first.content}\nYou: forty-two" in conversation
    assert message == second.content


async def test_a_turn_of_another_engine_is_sent_as_text(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    first = steps(["text", "one"])
    await engine.run(first, host)
    host.next_turn(first)
    host.past.append(PastTurn("turn_2", "and you?", "done", None, (), "I am builtin", "builtin"))
    third = steps(["prompt"], id="turn_3")
    await engine.run(third, host)
    conversation, _ = json.loads(host.visible)
    assert "User: and you?\nYou: I am builtin" in conversation
    assert first.content not in conversation
    host.next_turn(third)
    fourth = steps(["prompt"], id="turn_4")
    await engine.run(fourth, host)
    assert json.loads(host.visible) == [fourth.content]


async def test_a_turn_that_was_cut_off_is_sent_with_the_reason(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted("well", "loads"))
    first = steps(["text", "half an ans"])
    await engine.run(first, host)
    host.next_turn(first, "error", "server_restarted")
    await engine.close_loop("loop_1")
    await engine.run(steps(["prompt"], id="turn_2"), host)
    assert "half an ans" in host.visible
    assert "the server restarted" in host.visible


async def test_changed_instructions_are_sent_again(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    first = steps(["text", "one"])
    await engine.run(first, host)
    host.next_turn(first)

    async def other(turn: object) -> str:
        return "Be loud."

    engine._instructions = other
    await engine.run(steps(["prompt"], id="turn_2"), host)
    assert "Be loud." in host.visible


async def test_another_agent_begins_a_session_of_its_own(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    agents = {"bot": scripted("well", "loads"), "other": scripted("well", "loads")}
    (home / "config.json").write_text(json.dumps({"agent": "bot", "agents": agents}))
    first = steps(["text", "one"])
    await engine.run(first, host)
    host.next_turn(first)
    (home / "config.json").write_text(json.dumps({"agent": "other", "agents": agents}))
    await engine.run(steps(["prompt"], id="turn_2"), host)
    assert "this conversation began before this session" in host.visible
    assert host.entries[0]["agent"] == "other"


async def test_an_agent_that_is_configured_otherwise_is_started_anew(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    for number, value in enumerate("ab"):
        configure(home, scripted("well", "loads", env={"X": value}))
        turn = steps(["env", "X"], id=f"turn_{number}")
        await engine.run(turn, host)
        assert host.visible == value
        host.next_turn(turn)


def test_the_missed_turns_are_bounded_and_the_newest_are_kept() -> None:
    turns = [
        PastTurn(f"turn_{n}", f"question {n} " + "x" * 5000, "done", None, (), "y" * 5000)
        for n in range(100)
    ]
    text = catch_up.missed_turns_prompt(turns, whole=True)
    assert len(text.encode()) < catch_up.PROMPT_LIMIT + 1000
    assert "question 99 " in text
    assert "question 0 " not in text
    assert "the turns before are left out" in text
