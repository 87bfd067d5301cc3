"""A conversation that is too long, a provider that is busy, a quota that is used up: told apart."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from loopat_jupyter.context.config_file import SelectedModel
from loopat_jupyter.engines.builtin.engine import BuiltinEngine
from loopat_jupyter.engines.models.errors import content_error, response_error
from loopat_jupyter.engines.models.messages import UserMessage
from loopat_jupyter.engines.models.pool import ModelPool
from loopat_jupyter.engines.models.port import ModelError, ModelRequest
from loopat_jupyter.loops.errors import TurnFailure

from .. import mock_provider as mock
from ..conftest import configure
from ..memory_host import MemoryHost, turn_of
from ..mock_provider import MockProvider, Reply


def error(status: int, message: str, headers: dict[str, str] | None = None):
    body = json.dumps({"error": {"message": message}}).encode()
    return response_error(status, body, headers or {}, address="http://a/v1", secrets=("sk-key",))


TOO_LONG = [
    (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in "
          "10000 tokens. Please reduce the length of the messages.", 8192),
    (400, "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in "
          "300000 tokens.", 272_000),
    (400, "prompt is too long: 208310 tokens > 199999 maximum", 199_999),
    (400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease "
          "input length or `max_tokens` and try again", 200_000),
    (400, "Input is too long for requested model.", None),
    (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
     1_048_576),
    (400, "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
          "context length", 32_768),
    (400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 4096),  # noqa: E501
    (400, "the request exceeds the available context size. try increasing the context size", None),
    (500, "the request exceeds the available context size", None),
    (400, "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
     131_072),
    (400, "The prompt is too long: 40000, model maximum context length: 32767", 32_767),
    (400, "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000",  # noqa: E501
     None),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 5000",
     4097),
    (422, "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000", 1024),
    (400, "Invalid request: Your request exceeded model token limit: 131072", 131_072),
    (400, "Please reduce the length of the messages or completion. Current length is 9000 while limit "  # noqa: E501
          "is 8192", 8192),
    (413, "Request body too large for gpt-4o model. Max size: 8000 tokens.", 8000),
    (413, "Request Entity Too Large", None),
    (400, "Range of input length should be [1, 30720]", 30_720),
    (400, "Trying to keep the first 4100 tokens when context the overflows.", None),
    (400, "context window exceeds limit (2013)", None),
    (400, "Prompt 超长", None),
    (400, "输入内容过长，请减少输入", None),
    (400, "The request was rejected: num_ctx is too small for it", None),
]  # fmt: skip


@pytest.mark.parametrize(("status", "words", "window"), TOO_LONG)
def test_a_conversation_that_is_too_long_is_recognised(
    status: int, words: str, window: int | None
) -> None:
    found = error(status, words)
    assert found.too_long
    assert not found.retryable
    if window is not None:
        assert found.window == window


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "invalid x-api-key"),
        (404, "The model `x` does not exist"),
        (429, "Rate limit reached for tokens per minute. Limit 6000, Requested 9000"),
        (400, "messages.1: tool_use ids were found without tool_result blocks"),
        (400, "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens"),
        (
            400,
            "max_tokens is too large: 20000. This model supports at most 16384 completion tokens",
        ),
        (403, "Your context is not allowed"),
    ],
)
def test_what_is_not_about_length_is_not_taken_for_it(status: int, words: str) -> None:
    assert not error(status, words).too_long


def test_a_limit_of_the_output_is_told_apart() -> None:
    words = "max_tokens is too large: 20000. This model supports at most 16384 completion tokens"
    assert error(400, words).output_limit == 16_384


@pytest.mark.parametrize(
    ("status", "words", "retryable"),
    [
        (429, "Rate limit reached", True),
        (429, "You exceeded your current quota, please check your plan and billing details", False),
        (408, "timeout", True),
        (500, "oops", True),
        (502, "bad gateway", True),
        (503, "unavailable", True),
        (529, "overloaded", True),
        (501, "not implemented", False),
        (400, "bad", False),
        (402, "pay", False),
    ],
)
def test_what_may_succeed_later_is_tried_again(status: int, words: str, retryable: bool) -> None:
    assert error(status, words).retryable is retryable


def test_the_provider_s_word_about_trying_again_goes_first() -> None:
    assert not error(500, "x", {"x-should-retry": "false"}).retryable
    assert error(400, "x", {"x-should-retry": "true"}).retryable


def test_how_long_to_wait_is_read_in_every_form() -> None:
    assert error(429, "x", {"retry-after": "7"}).retry_after == 7
    assert error(429, "x", {"retry-after-ms": "1500"}).retry_after == 1.5
    later = error(429, "x", {"retry-after": formatdate(time.time() + 60, usegmt=True)}).retry_after
    assert later is not None
    assert 50 < later <= 60
    assert error(429, "x", {"retry-after": "soon"}).retry_after is None


def test_a_status_inside_of_an_error_event_counts() -> None:
    def inside(content: dict[str, object]) -> bool:
        return content_error(content, address="a", secrets=()).retryable

    assert inside({"error": {"code": 502, "message": "bad gateway"}})
    assert inside({"error": {"type": "overloaded_error", "message": "busy"}})
    assert not inside({"error": {"code": 401, "message": "no"}})
    assert not inside({"error": {"type": "invalid_request_error", "message": "no"}})


def test_a_message_is_one_bounded_line_without_the_key() -> None:
    message = error(400, "sk-key\n" + "x" * 5000).message
    assert "sk-key" not in message
    assert "\n" not in message
    assert len(message) < 700


# ------------------------------------------------------------------ in a turn


def refusal(status: int, words: str) -> Reply:
    return Reply([json.dumps({"error": {"message": words}})], status, kind="application/json")


@pytest.mark.parametrize(
    ("status", "words"),
    [(413, "Payload Too Large"), (400, "prompt is too long"), (400, "bad number of tokens")],
)
async def test_a_large_request_is_tried_once_more_with_less(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    status: int,
    words: str,
) -> None:
    configure(home, provider, "openai")
    many = mock.openai(
        mock.call_delta(0, json.dumps({"command": "seq 1 9000"}), id="c", name="Bash")
    )
    provider.replies = [
        *mock.replies(many),
        refusal(status, words),
        *mock.replies(mock.openai({"content": "ok"})),
    ]
    await quick.run(turn_of("go"), host)
    assert host.visible == "ok"
    _, first, second = (len(json.dumps(asked.body["messages"])) for asked in provider.asked)
    assert second < first


async def test_a_small_request_is_not_and_the_words_are_the_provider_s(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    provider.replies = [refusal(400, "bad number of tokens")]
    with pytest.raises(TurnFailure, match="bad number of tokens"):
        await quick.run(turn_of("go"), host)
    assert len(provider.asked) == 1


async def test_the_window_that_a_refusal_names_is_remembered(provider: MockProvider) -> None:
    pool = ModelPool()
    choice = SelectedModel("p", "m", "openai", f"{provider.url}/v1", "key")
    model = await pool.model(choice)
    assert model.window == 32_000
    provider.replies = [refusal(400, "This model's maximum context length is 4096 tokens.")]
    with pytest.raises(ModelError):
        await model.complete(ModelRequest("", [UserMessage("x")]), nothing)
    assert (await pool.model(choice)).window == 4096
    await pool.close()


async def nothing(_delta: object) -> None: ...
