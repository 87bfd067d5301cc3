"""Histories that every provider accepts, also after a cut, and after a change of the model.

The rules are the published ones: of Anthropic's Messages API, and of OpenAI, Mistral, Gemini
(OpenAI-compatible) and DeepSeek for Chat Completions.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest

from loopat_jupyter.context.config_file import SelectedModel
from loopat_jupyter.engines.builtin.history import turn_messages
from loopat_jupyter.engines.models.anthropic import AnthropicFormat
from loopat_jupyter.engines.models.messages import (
    Message,
    ModelReply,
    ReplyText,
    ReplyThinking,
    ReplyToolCall,
    ToolResultPart,
    ToolResults,
    UserMessage,
    response_entry,
    result_entry,
)
from loopat_jupyter.engines.models.openai import OpenAiFormat
from loopat_jupyter.engines.models.port import ModelRequest
from loopat_jupyter.engines.models.wire import Origin, RequestPlan
from loopat_jupyter.loops.ports.engine import PastTurn

HERE = Origin("openai", "https://here.test/v1", "one")
ELSEWHERE = Origin("anthropic", "https://elsewhere.test", "two")


def body(messages: Sequence[Message], origin: Origin) -> dict[str, Any]:
    choice = SelectedModel("p", origin.model, origin.api, origin.address, "key")
    format_ = OpenAiFormat() if origin.api == "openai" else AnthropicFormat()
    request = ModelRequest("Be brief.", messages)
    return format_.body(RequestPlan(choice, origin, request, frozenset(), None))


# ------------------------------------------------------------------ the rules


def check_chat(sent: list[dict[str, Any]], *, mistral: bool = False) -> None:
    """OpenAI, Gemini and DeepSeek; ``mistral`` adds that no user speaks right after a tool."""
    assert sent[0]["role"] == "system"
    roles = [one["role"] for one in sent[1:]]
    assert roles[0] == "user"
    assert roles[-1] in ("user", "tool")
    waiting: list[str] = []
    for message, following in itertools.pairwise([*sent[1:], None]):
        role = message["role"]
        if role == "tool":
            assert waiting.pop(0) == message["tool_call_id"]
            assert message["content"]
        else:
            assert not waiting, "calls without results"
        if role == "assistant":
            calls = message.get("tool_calls", [])
            assert calls or message["content"].strip()
            assert calls != [] or "tool_calls" not in message
            waiting = [call["id"] for call in calls]
            assert len(set(waiting)) == len(waiting)
            pattern = r"[A-Za-z0-9]{9}" if mistral else r"[A-Za-z0-9_-]{1,40}"
            assert all(re.fullmatch(pattern, one) for one in waiting)
        if role == "user":
            assert message["content"].strip()
        if following is not None:
            after = following["role"]
            assert (role, after) not in {("user", "user"), ("assistant", "assistant")}
            assert (role, after) not in {("user", "tool"), ("tool", "user")}
    assert not waiting


def check_messages(sent: list[dict[str, Any]]) -> None:
    """Anthropic: strictly in turn, results first and complete, no blank text, no lone thinking."""
    assert sent[0]["role"] == "user"
    assert sent[-1]["role"] == "user"
    for one, other in itertools.pairwise(sent):
        assert one["role"] != other["role"]
    waiting: list[str] = []
    for message in sent:
        blocks = message["content"]
        assert blocks
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert results == waiting
        assert [b["type"] for b in blocks[: len(results)]] == ["tool_result"] * len(results)
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one) for one in waiting)
        assert all(block["text"].strip() for block in blocks if block["type"] == "text")
        assert {block["type"] for block in blocks} - {"thinking", "redacted_thinking"}
        assert all(block["signature"] for block in blocks if block["type"] == "thinking")
        if waiting:
            assert message["role"] == "assistant"
    assert not waiting


def check_everywhere(messages: Sequence[Message]) -> None:
    check_chat(body(messages, HERE)["messages"])
    mistral = Origin("openai", "https://api.mistral.test/v1", "mistral-large")
    check_chat(body(messages, mistral)["messages"], mistral=True)
    check_messages(body(messages, ELSEWHERE)["messages"])


# ------------------------------------------------------------------ histories


def turn(state: str, *entries: dict[str, Any], text: str = "", code: str | None = None) -> PastTurn:
    return PastTurn("turn", "do it", state, code, tuple(entries), text)  # type: ignore[arg-type]


def reply(*parts: Any, origin: Origin = HERE) -> dict[str, Any]:
    return response_entry(ModelReply(tuple(parts), "m", native=origin.as_native()))


def result(call_id: str) -> dict[str, Any]:
    return result_entry(ToolResultPart(call_id, "Bash", True, "out"))


CALL = ReplyToolCall("functions.Bash:0", "Bash", {"command": "ls"})
OTHER = ReplyToolCall("x" * 90, "Bash", "{broken")

PAST: dict[str, list[PastTurn]] = {
    "interrupted after a result": [turn("interrupted", reply(CALL), result(CALL.id))],
    "interrupted while a call ran": [turn("interrupted", reply(ReplyText("Look."), CALL, OTHER))],
    "a provider's error before anything": [turn("error", code="agent_error")],
    "killed in the middle of a text": [turn("error", text="Half an ans", code="server_restarted")],
    "cut after results, with text": [
        turn("error", reply(CALL), result(CALL.id), text="and th", code="agent_error")
    ],
    "thinking alone": [turn("done", reply(ReplyThinking("hm", {"signature": "s"})))],
    "an empty reply": [turn("done", reply())],
    "several in a row": [
        turn("interrupted"),
        turn("interrupted", reply(CALL), result(CALL.id)),
        turn("done", reply(ReplyText("ok"))),
        turn("error", code="agent_error"),
    ],
}


@pytest.mark.parametrize("name", PAST)
def test_a_history_after_a_cut_is_accepted_by_every_provider(name: str) -> None:
    messages = [one for turn in PAST[name] for one in turn_messages(turn)]
    check_everywhere([*messages, UserMessage("go on", current=True)])


def test_any_history_is_accepted() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(300):
        messages: list[Message] = []
        for _ in range(chance.randrange(1, 6)):
            messages.append(UserMessage(chance.choice(["hello", "again"])))
            for _ in range(chance.randrange(0, 4)):
                calls = [
                    ReplyToolCall(f"{chance.random()}", "Bash", chance.choice([{"a": 1}, "{bad"]))
                    for _ in range(chance.randrange(0, 3))
                ]
                parts = [
                    *chance.choice([[], [ReplyThinking("hm", {"signature": "s"})]]),
                    *chance.choice([[], [ReplyText("text")], [ReplyText(" ")]]),
                    *calls,
                ]
                origin = chance.choice([HERE, ELSEWHERE])
                messages.append(ModelReply(tuple(parts), "m", native=origin.as_native()))
                if calls:
                    results = [ToolResultPart(c.id, "Bash", True, "") for c in calls]
                    messages.append(ToolResults(tuple(results)))
        check_everywhere([*messages, UserMessage("now", current=True)])


# ------------------------------------------------------------------ what is native


def conversation(native: dict[str, Any], origin: Origin, *, new_turn: bool) -> list[Message]:
    made = ModelReply(
        (ReplyThinking("secret thought", native), CALL), "m", native=origin.as_native()
    )
    messages: list[Message] = [UserMessage("hello"), made]
    messages.append(ToolResults((ToolResultPart(CALL.id, "Bash", True, "out"),)))
    return [*messages, ModelReply((ReplyText("ok"),)), UserMessage("x")] if new_turn else messages


@pytest.mark.parametrize(
    "native", [{}, {"signature": "s"}, {"redacted": "d"}, {"field": "reasoning"}]
)
@pytest.mark.parametrize("new_turn", [True, False])
def test_thinking_of_another_model_is_never_told_under_another_role(
    native: dict[str, Any], new_turn: bool
) -> None:
    there = Origin("anthropic", ELSEWHERE.address, "another model")
    for maker, reader in [(HERE, ELSEWHERE), (ELSEWHERE, HERE), (there, ELSEWHERE)]:
        sent = str(body(conversation(native, maker, new_turn=new_turn), reader))
        assert "secret thought" not in sent
        assert "'d'" not in sent


def test_a_signed_thought_goes_back_to_who_signed_it() -> None:
    sent = body(conversation({"signature": "s"}, ELSEWHERE, new_turn=True), ELSEWHERE)["messages"]
    assert sent[1]["content"][0] == {
        "type": "thinking",
        "thinking": "secret thought",
        "signature": "s",
    }
    sent = body(conversation({"redacted": "d"}, ELSEWHERE, new_turn=True), ELSEWHERE)["messages"]
    assert sent[1]["content"][0] == {"type": "redacted_thinking", "data": "d"}


def test_reasoning_goes_back_while_its_calls_are_answered_and_not_later() -> None:
    native = {"field": "reasoning_content"}
    during = body(conversation(native, HERE, new_turn=False), HERE)["messages"]
    assert during[2]["reasoning_content"] == "secret thought"
    later = body(conversation(native, HERE, new_turn=True), HERE)["messages"]
    assert "secret thought" not in str(later)


def test_a_signature_of_a_call_goes_back_to_who_made_it() -> None:
    extra = {"extra_content": {"google": {"thought_signature": "sig"}}}
    call = ReplyToolCall("c", "Bash", {}, extra)
    messages = [
        UserMessage("hello"),
        ModelReply((call,), "m", native=HERE.as_native()),
        ToolResults((ToolResultPart("c", "Bash", True, "out"),)),
    ]
    assert body(messages, HERE)["messages"][2]["tool_calls"][0]["extra_content"]
    other = Origin("openai", HERE.address, "another")
    assert "sig" not in str(body(messages, other)).replace("assign", "")


def test_an_id_is_the_same_in_its_call_and_its_result_and_from_request_to_request() -> None:
    messages = conversation({}, HERE, new_turn=True)
    first, second = body(messages, HERE), body([*messages], HERE)
    assert first == second
    [call] = first["messages"][2]["tool_calls"]
    assert call["id"] == first["messages"][3]["tool_call_id"]
