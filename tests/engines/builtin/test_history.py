"""The conversation as the next turn's model sees it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.builtin.engine import BuiltinEngine
from loopat_jupyter.engines.builtin.history import NO_RESULT, turn_messages
from loopat_jupyter.engines.models.messages import ModelReply, UserMessage
from loopat_jupyter.loops.errors import TurnFailure
from loopat_jupyter.loops.ports.engine import PastTurn
from tests.engines import mock_provider as mock
from tests.engines.conftest import configure
from tests.engines.memory_host import MemoryHost, turn_of
from tests.engines.mock_provider import MockProvider, Reply


async def sent_after(
    quick: BuiltinEngine, provider: MockProvider, host: MemoryHost, *past: PastTurn
) -> list[dict[str, Any]]:
    """What the next turn's model is sent."""
    provider.replies = mock.replies(mock.anthropic(mock.text_block("I see.")))
    await quick.run(turn_of("And now?", "turn_2"), MemoryHost(host.box, past=list(past)))
    messages: list[dict[str, Any]] = provider.asked[-1].body["messages"]
    return messages


async def test_a_turn_that_ended_well_is_told_as_it_was(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = mock.replies(
        mock.anthropic(
            mock.thinking_block("Hm", signature="s"),
            mock.call_block("x", "Bash", '{"command": "echo hi"}'),
        ),
        mock.anthropic(mock.text_block("It said hi.")),
    )
    turn = turn_of("Say hi")
    await quick.run(turn, host)
    messages = await sent_after(quick, provider, host, host.ended(turn))
    assert [message["role"] for message in messages] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert messages[1]["content"][0]["signature"] == "s"
    assert "cut off" not in json.dumps(messages)
    assert "And now?" in json.dumps(messages[-1])


async def test_interrupted_while_a_tool_ran(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = mock.replies(
        mock.anthropic(
            mock.text_block("I start."),
            mock.call_block("x", "Bash", '{"command": "sleep 60"}'),
        )
    )
    turn = turn_of("Sleep")
    task = asyncio.create_task(quick.run(turn, host))
    async with asyncio.timeout(20):
        await host.box.running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    messages = await sent_after(quick, provider, host, host.ended(turn, "interrupted"))
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    results, told = messages[2]["content"][0], json.dumps(messages[2])
    assert NO_RESULT in json.dumps(results)
    assert "cut off because the user interrupted it" in told
    assert "And now?" in told


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("server_restarted", "the server restarted"),
        ("sandbox_evicted", "its sandbox was taken away"),
        ("agent_error", "an error occurred"),
        (None, "an error occurred"),
    ],
)
async def test_text_that_was_shown_but_not_finished_is_kept(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    code: str | None,
    why: str,
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = [
        *mock.replies(
            mock.anthropic(
                mock.text_block("First."), mock.call_block("x", "Bash", '{"command": "true"}')
            )
        ),
        Reply(mock.anthropic(mock.text_block("Second, half"))[:4], cut=True),
    ]
    turn = turn_of("Go")
    with pytest.raises(TurnFailure):
        await quick.run(turn, host)
    assert host.visible == "First.Second, half"
    messages = await sent_after(quick, provider, host, host.ended(turn, "error", code))
    assert messages[3]["role"] == "assistant"
    assert messages[3]["content"][0]["text"].strip() == "Second, half"
    told = json.dumps(messages[4])
    assert f"cut off because {why}" in told
    assert "last text above is incomplete" in told


async def test_nothing_was_said_before_the_server_died(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    dead = PastTurn("turn_1", "Go", "error", "server_restarted", (), "")
    messages = await sent_after(quick, provider, host, dead)
    assert [message["role"] for message in messages] == ["user"]
    text = json.dumps(messages)
    assert "Go" in text
    assert "the server restarted" in text


def test_a_turn_of_another_engine_is_its_message_and_its_text() -> None:
    entry = {"type": "session", "session_id": "s"}
    other = PastTurn("turn_1", "Go", "done", None, (entry,), "Went.")
    said, answer = turn_messages(other)
    assert said == UserMessage("Go")
    assert isinstance(answer, ModelReply)
    assert answer.text == "Went."


def test_a_turn_without_any_answer_still_has_one() -> None:
    _, answer = turn_messages(PastTurn("turn_1", "Go", "done", None, (), ""))
    assert isinstance(answer, ModelReply)
    assert answer.text
