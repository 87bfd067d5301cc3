"""Long conversations: what is left out, in which order, and that the agent is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loopat_jupyter.engines.builtin.context_window import ContextWindow, size
from loopat_jupyter.engines.builtin.engine import BuiltinEngine
from loopat_jupyter.engines.models.messages import (
    Compaction,
    Message,
    ModelReply,
    ReplyText,
    ReplyToolCall,
    TokenCounts,
    ToolResultPart,
    ToolResults,
    UserMessage,
)
from loopat_jupyter.loops.errors import TurnFailure
from tests.engines import mock_provider as mock
from tests.engines.conftest import configure
from tests.engines.memory_host import MemoryHost, turn_of
from tests.engines.mock_provider import MockProvider, Reply


def step(number: int, characters: int) -> list[Message]:
    call = ReplyToolCall(f"c{number}", "Bash", {"command": "make"})
    result = ToolResultPart(f"c{number}", "Bash", True, f"{number}:" + "x" * characters)
    return [ModelReply((call,)), ToolResults((result,))]


def turn(number: int, characters: int) -> list[Message]:
    end = ModelReply((ReplyText(f"end {number}"),))
    return [UserMessage(f"turn {number}"), *step(number, characters), end]


def texts(messages: list[Message]) -> str:
    return json.dumps([repr(message) for message in messages])


def test_what_fits_is_left_alone() -> None:
    turns = [turn(1, 3000), [UserMessage("now", current=True)]]
    fitted = ContextWindow(100_000, 1000).fit(turns, Compaction())
    assert fitted.compaction == Compaction()
    assert fitted.messages == [message for one in turns for message in one]


def test_oldest_results_go_first_and_no_more_than_needed() -> None:
    turns = [*(turn(number, 6000) for number in range(10)), [UserMessage("now", current=True)]]
    fitted = ContextWindow(20_000, 0).fit(turns, Compaction())
    assert fitted.compaction.turns == 0
    assert 0 < fitted.compaction.results < 10
    said = texts(fitted.messages)
    assert "0:xxx" not in said
    assert "9:xxx" in said
    assert "was left out to save room" in said
    assert fitted.estimate == sum(map(size, fitted.messages))


def test_then_oldest_turns_and_never_the_current_message() -> None:
    long = UserMessage("y" * 9000)
    turns: list[list[Message]] = [[long, ModelReply((ReplyText(str(n)),))] for n in range(10)]
    turns.append([UserMessage("now", current=True)])
    fitted = ContextWindow(20_000, 0).fit(turns, Compaction())
    assert fitted.compaction.turns > 0
    assert fitted.messages[-1] == UserMessage("now", current=True)
    first = fitted.messages[0]
    assert isinstance(first, UserMessage)
    assert f"the first {fitted.compaction.turns} turns" in first.text


def test_what_was_left_out_stays_out_so_that_the_prompt_begins_the_same() -> None:
    turns = [*(turn(number, 6000) for number in range(10)), [UserMessage("now", current=True)]]
    window = ContextWindow(20_000, 0)
    first = window.fit(turns, Compaction())
    turns[-1] = [*turns[-1], *step(10, 600)]
    second = window.fit(turns, first.compaction)
    assert second.compaction == first.compaction
    assert second.messages[: len(first.messages)] == first.messages


def test_results_the_model_has_just_asked_for_stay() -> None:
    turns = [[UserMessage("now", current=True), *step(1, 90_000)]]
    fitted = ContextWindow(20_000, 0).fit(turns, Compaction())
    assert "1:xxx" in texts(fitted.messages)


def test_after_a_refusal_even_those_are_shortened() -> None:
    turns = [[UserMessage("now", current=True), *step(1, 90_000)]]
    window = ContextWindow(40_000, 0)
    refused = window.fit(turns, Compaction())
    fitted = window.fit(turns, Compaction(), tighter_than=refused.estimate)
    assert fitted.estimate <= refused.estimate // 2
    assert "left out here" in texts(fitted.messages)


def test_the_estimate_learns_from_what_the_provider_counted() -> None:
    measured = ModelReply((ReplyText("."),), tokens=TokenCounts(input=4000), estimate=1000)
    turns: list[list[Message]] = [
        *(turn(number, 6000) for number in range(4)),
        [UserMessage("before"), measured],
        [UserMessage("now", current=True)],
    ]
    assert ContextWindow(20_000, 0).fit(turns, Compaction()).compaction.results > 0
    turns[-2] = [UserMessage("before"), ModelReply((ReplyText("."),))]
    assert ContextWindow(20_000, 0).fit(turns, Compaction()).compaction.results == 0


async def test_a_long_turn_keeps_going_and_the_compaction_is_journaled(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic", contextWindow=12_000)
    call = '{"command": "head -c 9000 /dev/zero | tr \'\\\\0\' x"}'
    provider.replies = mock.replies(
        *(
            mock.anthropic(mock.call_block(f"c{n}", "Bash", call), input_tokens=2500 * (n + 1))
            for n in range(8)
        ),
        mock.anthropic(mock.text_block("Done.")),
    )
    current = turn_of("go")
    await quick.run(current, host)
    assert host.visible == "Done."
    assert [entry for entry in host.entries if entry["type"] == "compaction"]
    sent = json.dumps(provider.asked[-1].body)
    assert "was left out to save room" in sent
    assert len(sent) < 12_000 * 4
    # The next turn begins with the same things left out.
    later = MemoryHost(host.box, past=[host.ended(current)])
    provider.replies = mock.replies(mock.anthropic(mock.text_block("Yes.")))
    await quick.run(turn_of("still there?", "turn_2"), later)
    assert "was left out to save room" in json.dumps(provider.asked[-1].body)


@pytest.mark.parametrize(
    ("api", "message"),
    [
        ("anthropic", "prompt is too long: 250000 tokens > 200000 maximum"),
        ("openai", "This model's maximum context length is 8192 tokens."),
    ],
)
async def test_a_provider_that_finds_it_too_long_is_asked_once_more_with_less(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    api: str,
    message: str,
) -> None:
    configure(home, provider, api)
    error = {"type": "invalid_request_error", "message": message}
    refusal = Reply([json.dumps({"type": "error", "error": error})], 400, kind="application/json")
    call = '{"command": "head -c 60000 /dev/zero | tr \'\\\\0\' x"}'
    if api == "anthropic":
        first, last = mock.replies(
            mock.anthropic(mock.call_block("c", "Bash", call)),
            mock.anthropic(mock.text_block("Done.")),
        )
    else:
        first, last = mock.replies(
            mock.openai(mock.call_delta(0, call, id="c", name="Bash"), finish="tool_calls"),
            mock.openai({"content": "Done."}),
        )
    provider.replies = [first, refusal, last]
    await quick.run(turn_of("go"), host)
    assert host.visible == "Done."
    lengths = [len(json.dumps(asked.body)) for asked in provider.asked]
    assert lengths[2] < lengths[1] * 0.7

    provider.replies = [refusal, refusal]
    with pytest.raises(TurnFailure, match="does not fit"):
        await quick.run(turn_of("go"), MemoryHost(host.box))
