"""Real HTTP against mock providers: both wire formats, caching, usage, environment, failures."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from loopat_jupyter.engines.builtin.engine import BuiltinEngine
from loopat_jupyter.engines.models.capabilities import guess_window
from loopat_jupyter.loops.errors import TurnFailure
from loopat_jupyter.loops.ports.engine import Turn

from . import mock_provider as mock
from .conftest import KEY, configure
from .memory_host import MemoryHost, turn_of
from .mock_provider import MockProvider, Reply

# ------------------------------------------------------------------ Anthropic


async def test_anthropic_streams_thinking_text_and_a_call_and_sends_them_back(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = mock.replies(
        mock.anthropic(
            mock.thinking_block("Let me ", "look.", signature="sig-1"),
            mock.text_block("I will ", "look."),
            mock.call_block("toolu_1", "Bash", '{"comm', 'and": "echo', ' hi"}'),
            cache_read_input_tokens=100,
            cache_creation_input_tokens=20,
        ),
        mock.anthropic(mock.text_block("It says hi.")),
    )
    await quick.run(turn_of("look"), host)
    assert host.thought == "Let me look."
    assert host.visible == "I will look.It says hi."
    assert [one for one in host.said if one[0] == "text"][:2] == [
        ("text", "I will "),
        ("text", "look."),
    ]
    assert host.results == [(True, "hi")]
    assert host.total.input_tokens == 20
    assert host.total.cache_read_tokens == 100
    assert host.total.cache_write_tokens == 20
    assert host.total.output_tokens == 14
    first, second = provider.asked
    assert first.path.startswith("/v1/messages")
    assert first.headers["x-api-key"] == KEY
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert [tool["name"] for tool in first.body["tools"]][:2] == ["Bash", "Read"]
    assert "cache_control" in first.body["tools"][-1]
    assert "cache_control" in json.dumps(first.body["system"])
    assert "cache_control" in json.dumps(second.body["messages"][-1])
    assert "Be brief." in json.dumps(first.body["system"])
    assistant, user = second.body["messages"][1:]
    assert assistant["content"][0] == {
        "type": "thinking",
        "thinking": "Let me look.",
        "signature": "sig-1",
    }
    assert assistant["content"][2]["input"] == {"command": "echo hi"}
    assert user["content"][0]["tool_use_id"] == "toolu_1"
    assert "hi" in json.dumps(user["content"][0]["content"])
    assert provider.connections == 1


async def test_anthropic_parallel_calls_run_at_the_same_time_and_all_results_go_back(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, workdir: Path
) -> None:
    configure(home, provider, "anthropic")
    # Each waits for the other one's file: only at the same time can both end.
    wait = "touch {0}; until [ -e {1} ]; do sleep 0.01; done"
    provider.replies = mock.replies(
        mock.anthropic(
            mock.call_block("a", "Bash", json.dumps({"command": wait.format("x", "y")})),
            mock.call_block("b", "Bash", json.dumps({"command": wait.format("y", "x")})),
        ),
        mock.anthropic(mock.text_block("Done.")),
    )
    async with asyncio.timeout(20):
        await quick.run(turn_of("go"), host)
    sent = provider.asked[1].body["messages"][-1]["content"]
    assert [part["tool_use_id"] for part in sent] == ["a", "b"]


@pytest.mark.parametrize(
    ("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error"), (500, "api_error")]
)
async def test_a_busy_provider_is_asked_again(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    status: int,
    kind: str,
) -> None:
    configure(home, provider, "anthropic")
    refusal = Reply([mock.anthropic_error(kind, "later")], status, kind="application/json")
    provider.replies = [refusal, refusal, *mock.replies(mock.anthropic(mock.text_block("ok")))]
    await quick.run(turn_of("go"), host)
    assert host.visible == "ok"
    assert len(provider.asked) == 3


async def test_overloaded_inside_the_stream_before_anything_was_shown_is_asked_again(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    start = mock.anthropic()[:1]
    busy = Reply([*start, mock.anthropic_error_event("overloaded_error", "Overloaded")])
    provider.replies = [busy, *mock.replies(mock.anthropic(mock.text_block("ok")))]
    await quick.run(turn_of("go"), host)
    assert host.visible == "ok"


async def test_retry_after_is_honoured(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    body = [mock.anthropic_error("rate_limit_error", "later")]
    provider.replies = [
        Reply(body, 429, {"retry-after": "1"}, kind="application/json"),
        *mock.replies(mock.anthropic(mock.text_block("ok"))),
    ]
    begin = time.monotonic()
    await quick.run(turn_of("go"), host)
    assert time.monotonic() - begin >= 1


async def test_retry_after_beyond_our_patience_ends_the_turn_at_once(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    body = [mock.anthropic_error("rate_limit_error", "come back in an hour")]
    provider.replies = [Reply(body, 429, {"retry-after": "3600"}, kind="application/json")]
    with pytest.raises(TurnFailure, match="come back in an hour"):
        await quick.run(turn_of("go"), host)


async def test_a_stream_that_breaks_off_after_text_is_an_error_and_not_repeated(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = [Reply(mock.anthropic(mock.text_block("Half"))[:4], cut=True)]
    with pytest.raises(TurnFailure, match="broke off"):
        await quick.run(turn_of("go"), host)
    assert host.visible == "Half"
    assert len(provider.asked) == 1


async def test_a_stream_that_ends_early_but_cleanly_is_noticed_too(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = [Reply(mock.anthropic(mock.text_block("Half"))[:4])]
    with pytest.raises(TurnFailure, match=r"broke off.*before it was complete"):
        await quick.run(turn_of("go"), host)


async def test_a_refused_key_names_the_reason_and_not_the_key(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    body = [mock.anthropic_error("authentication_error", f"invalid x-api-key {KEY}")]
    provider.replies = [Reply(body, 401, kind="application/json")]
    with pytest.raises(TurnFailure, match="invalid x-api-key") as caught:
        await quick.run(turn_of("go"), host)
    assert KEY not in caught.value.message
    assert caught.value.event_code == "agent_error"
    assert len(provider.asked) == 1


async def test_nobody_listens_there(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    provider.url = "http://127.0.0.1:9"
    configure(home, provider, "anthropic")
    with pytest.raises(TurnFailure, match="did not answer"):
        await quick.run(turn_of("go"), host)


@pytest.mark.parametrize(
    "chunks",
    [
        ["event: message_start\ndata: {not json\n\n"],
        ["data: []\n\n"],
        ['event: message_start\ndata: {"type": "message_start"}\n\n'],
        ["<html>a proxy's page</html>"],
        ["\x00\x01\x02"],
        [],
    ],
)
@pytest.mark.parametrize("api", ["anthropic", "openai"])
async def test_a_malformed_stream_is_a_clear_error(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    api: str,
    chunks: list[str],
) -> None:
    configure(home, provider, api)
    provider.replies = [Reply(chunks), Reply(chunks), Reply(chunks)]
    with pytest.raises(TurnFailure):
        await quick.run(turn_of("go"), host)


@pytest.mark.parametrize("api", ["anthropic", "openai"])
async def test_cancelling_while_streaming_closes_the_stream(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, api: str
) -> None:
    configure(home, provider, api)
    spoken = (
        mock.anthropic(mock.text_block("Half"))[:4]
        if api == "anthropic"
        else mock.openai({"content": "Half"})[:1]
    )
    provider.replies = [Reply(spoken, hold=True)]
    task = asyncio.create_task(quick.run(turn_of("go"), host))
    async with asyncio.timeout(20):
        await host.heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await provider.gone.wait()


async def test_cancelling_before_the_answer_begins(
    quick: BuiltinEngine, host: MemoryHost, home: Path
) -> None:
    reached = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    provider = MockProvider()
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    configure(home, provider, "anthropic")
    task = asyncio.create_task(quick.run(turn_of("go"), host))
    async with asyncio.timeout(20):
        await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.close()


async def test_the_environment_decides_nothing(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = "http://127.0.0.1:9"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, elsewhere)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "leaked")
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "leaked")
    for name in ("ANTHROPIC_CUSTOM_HEADERS", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "x-leak: leaked")
    configure(home, provider, "anthropic")
    provider.replies = mock.replies(mock.anthropic(mock.text_block("a")))
    await quick.run(turn_of("go"), host)
    configure(home, provider, "openai")
    provider.replies = mock.replies(mock.openai({"content": "b"}))
    await quick.run(turn_of("go"), host)
    assert host.visible == "ab"
    for asked in provider.asked:
        assert "leaked" not in json.dumps(asked.headers)


# ------------------------------------------------------------------ OpenAI


async def test_openai_fragments_an_empty_id_and_no_usage(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    provider.replies = mock.replies(
        mock.openai(
            {"role": "assistant", "reasoning_content": "Hm. "},
            {"reasoning_content": "Well."},
            {"content": "Two "},
            {"content": "calls."},
            mock.call_delta(0, "", id="", name="Bash"),
            mock.call_delta(0, '{"command": "ec'),
            mock.call_delta(0, 'ho one"}'),
            mock.call_delta(1, '{"command": "echo two"}', id="", name="Bash"),
            finish="tool_calls",
        ),
        mock.openai({"content": "Done."}),
    )
    await quick.run(turn_of("go"), host)
    assert host.thought == "Hm. Well."
    assert host.visible == "Two calls.Done."
    assert sorted(host.results) == [(True, "one"), (True, "two")]
    calls = [one for one in host.said if one[0] == "call"]
    ids = [one[1] for one in calls]
    assert len(set(ids)) == 2
    assert all(ids)
    asked = provider.asked[1]
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    sent = asked.body["messages"]
    assert [call["id"] for call in sent[2]["tool_calls"]] == ids
    assert {one["tool_call_id"] for one in sent if one["role"] == "tool"} == set(ids)


async def test_openai_usage_does_not_count_cached_tokens_twice(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 5,
        "total_tokens": 105,
        "prompt_tokens_details": {"cached_tokens": 80},
    }
    provider.replies = mock.replies(mock.openai({"content": "x"}, usage=usage))
    await quick.run(turn_of("go"), host)
    assert host.total.input_tokens == 20
    assert host.total.cache_read_tokens == 80
    assert host.total.output_tokens == 5


async def test_input_that_is_no_json_object_is_told_to_the_agent_and_the_turn_goes_on(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    bad = ['{"command": "ls', '["ls"]', "{}", '{"command": 5}', '{"command": "a", "timeout": "x"}']
    deltas = [
        mock.call_delta(index, text, id=f"c{index}", name="Bash") for index, text in enumerate(bad)
    ]
    deltas.append(mock.call_delta(5, "{}", id="c5", name="Reboot"))
    provider.replies = mock.replies(
        mock.openai(*deltas, finish="tool_calls"), mock.openai({"content": "I see."})
    )
    await quick.run(turn_of("go"), host)
    assert [ok for ok, _ in host.results] == [False] * 6
    told = [text for _, text in host.results]
    assert "not a valid JSON object" in told[0]
    assert "not a valid JSON object" in told[1]
    assert "command" in told[2]
    assert "command" in told[3]
    assert "timeout" in told[4]
    assert "no tool 'Reboot'" in told[5]
    assert host.visible == "I see."
    assert not [one for one in host.said if one[0] == "permission"]
    assert (
        json.loads(provider.asked[1].body["messages"][2]["tool_calls"][2]["function"]["arguments"])
        == {}
    )


async def test_a_stream_that_never_says_it_is_over_is_noticed(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    *half, done = mock.openai({"content": "Half"}, finish=None)
    provider.replies = mock.replies(half)
    with pytest.raises(TurnFailure, match="before it was complete"):
        await quick.run(turn_of("go"), host)
    provider.replies = mock.replies([*half, done])  # its last word, if not in so many words
    await quick.run(turn_of("go"), host)


async def test_the_configured_limits_are_sent(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic", maxTokens=1234)
    provider.replies = mock.replies(mock.anthropic(mock.text_block("x")))
    await quick.run(turn_of("go"), host)
    assert provider.asked[0].body["max_tokens"] == 1234


async def test_closing_the_engine_closes_its_connections(
    home: Path, host: MemoryHost, provider: MockProvider
) -> None:
    configure(home, provider, "anthropic")
    engine = BuiltinEngine(home, _nothing)
    provider.replies = mock.replies(*[mock.anthropic(mock.text_block("x"))] * 2)
    await engine.run(turn_of("go"), host)
    assert provider.open == 1
    await engine.close()
    async with asyncio.timeout(5):
        await provider.gone.wait()
    assert provider.open == 0
    await engine.run(turn_of("again"), host)  # a late turn opens a new one
    await engine.close()


async def _nothing(turn: Turn) -> str:
    return ""


@pytest.mark.parametrize(
    ("model", "own", "window"),
    [
        ("claude-next", False, 200_000),
        ("anthropic/claude-next", True, 200_000),
        ("openai/gpt-5-mini", True, 270_000),
        ("gpt-4o", True, 128_000),
        ("o3", True, 200_000),
        ("llama3.2:3b", True, 32_000),
        ("something", False, 128_000),
        ("claude-opus-4-6", False, 1_000_000),
    ],
)
def test_an_unknown_window_is_guessed_from_the_name(model: str, own: bool, window: int) -> None:
    assert guess_window(model, own_address=own) == window


async def test_thinking_is_asked_for_when_configured(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic", thinking="high")
    provider.replies = mock.replies(mock.anthropic(mock.text_block("x")))
    await quick.run(turn_of("go"), host)
    body = provider.asked[0].body
    assert body["thinking"]["type"] == "enabled"
    assert body["max_tokens"] > body["thinking"]["budget_tokens"]


async def test_watchers_get_the_raw_answers_and_results(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = mock.replies(
        mock.anthropic(mock.call_block("x", "Bash", '{"command": "true"}')),
        mock.anthropic(mock.text_block("Done.")),
    )
    await quick.run(turn_of("go"), host)
    raw = [one[1]["type"] for one in host.said if one[0] == "raw"]
    assert raw == ["response", "result", "response"]


async def test_a_changed_configuration_takes_effect_on_the_next_turn(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    await quick.run(turn_of("hello"), host)
    assert "demo" in host.visible
    configure(home, provider, "openai")
    provider.replies = mock.replies(mock.openai({"content": "real"}))
    real = MemoryHost(host.box)
    await quick.run(turn_of("hello"), real)
    assert real.visible == "real"
