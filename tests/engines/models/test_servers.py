"""Model servers as they are: what they send instead of what their API says, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.builtin.engine import BuiltinEngine
from loopat_jupyter.loops.errors import ConfigError, TurnFailure

from .. import mock_provider as mock
from ..conftest import KEY, configure
from ..memory_host import MemoryHost, turn_of
from ..mock_provider import MockProvider, Reply

ECHO = '{"command": "echo one"}'
ECHO_TWO = '{"command": "echo two"}'


def fragment(arguments: Any = None, **fields: Any) -> dict[str, Any]:
    """One fragment of a tool call; ``name`` goes into its function."""
    function: dict[str, Any] = {}
    if "name" in fields:
        function["name"] = fields.pop("name")
    if arguments is not None:
        function["arguments"] = arguments
    return {"tool_calls": [{**fields, "function": function}]}


CALLS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "both with index 0": (
        [
            fragment(ECHO, index=0, id="a", name="Bash"),
            fragment(ECHO_TWO, index=0, id="b", name="Bash"),
        ],
        ["one", "two"],
    ),
    "both with index 0, in fragments": (
        [
            fragment("", index=0, id="a", name="Bash"),
            fragment(ECHO[:9], index=0),
            fragment(ECHO[9:], index=0),
            fragment("", index=0, id="b", name="Bash"),
            fragment(ECHO_TWO[:9], index=0),
            fragment(ECHO_TWO[9:], index=0),
        ],
        ["one", "two"],
    ),
    "id and name in every fragment": (
        [
            fragment(ECHO[:5], index=0, id="a", name="Bash"),
            fragment(ECHO[5:12], index=0, id="a", name="Bash"),
            fragment(ECHO[12:], index=0, id="a", name="Bash"),
        ],
        ["one"],
    ),
    "no index": (
        [
            fragment(ECHO[:5], id="a", name="Bash"),
            fragment(ECHO[5:]),
            fragment(ECHO_TWO, id="b", name="Bash"),
        ],
        ["one", "two"],
    ),
    "no id": (
        [
            fragment(ECHO, index=0, name="Bash"),
            fragment(ECHO_TWO, index=1, name="Bash"),
        ],
        ["one", "two"],
    ),
    "neither id nor index": (
        [
            fragment(ECHO[:9], name="Bash"),
            fragment(ECHO[9:]),
            fragment(ECHO_TWO, name="Bash"),
        ],
        ["one", "two"],
    ),
    "equal ids": (
        [
            fragment(ECHO, index=0, id="x", name="Bash"),
            fragment(ECHO_TWO, index=1, id="x", name="Bash"),
        ],
        ["one", "two"],
    ),
    "equal ids without index": (
        [fragment(ECHO, id="x", name="Bash"), fragment(ECHO_TWO, id="x", name="Bash")],
        ["one", "two"],
    ),
    "the id comes late": (
        [
            fragment("", index=0, name="Bash"),
            fragment(ECHO, index=0, id="late"),
        ],
        ["one"],
    ),
    "arguments as an object": (
        [fragment(json.loads(ECHO), index=0, id="a", name="Bash")],
        ["one"],
    ),
    "JSON inside a string": (
        [fragment(json.dumps(ECHO), index=0, id="a", name="Bash")],
        ["one"],
    ),
    "a line break inside a JSON string": (
        [fragment('{"command": "echo\n one"}', index=0, id="a", name="Bash")],
        None,
    ),
    "the API's older function_call": (
        [
            {"function_call": {"name": "Bash", "arguments": ECHO[:9]}},
            {"function_call": {"arguments": ECHO[9:]}},
        ],
        ["one"],
    ),
    "the name in pieces": (
        [
            fragment(index=0, id="a", name="Ba"),
            fragment(index=0, name="sh"),
            fragment(ECHO, index=0),
        ],
        ["one"],
    ),
}


@pytest.mark.parametrize("name", CALLS)
async def test_tool_calls_are_put_together_whatever_they_lack(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, name: str
) -> None:
    deltas, results = CALLS[name]
    configure(home, provider, "openai")
    provider.replies = mock.replies(
        mock.openai(*deltas, finish="tool_calls"), mock.openai({"content": "Done."})
    )
    await quick.run(turn_of("go"), host)
    if results is not None:
        assert sorted(host.results) == [(True, one) for one in results]
    calls = [one for one in host.said if one[0] == "call"]
    assert {one[2] for one in calls} == {"Bash"}
    ids = [one[1] for one in calls]
    assert len(set(ids)) == len(ids) == len(results or [1])
    assert all(ids)
    assert host.visible == "Done."


@pytest.mark.parametrize("arguments", [None, "", "null", "{}"])
async def test_a_call_without_arguments_has_no_input(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, arguments: Any
) -> None:
    configure(home, provider, "openai")
    provider.replies = mock.replies(
        mock.openai(fragment(arguments, index=0, id="a", name="Bash"), finish="tool_calls"),
        mock.openai({"content": "Done."}),
    )
    await quick.run(turn_of("go"), host)
    [(ok, told)] = host.results
    assert not ok
    assert "command" in told


async def test_a_whole_call_in_the_start_of_its_block(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    start = {"type": "tool_use", "id": "a", "name": "Bash", "input": json.loads(ECHO)}
    provider.replies = mock.replies(
        mock.anthropic({"start": start, "deltas": []}), mock.anthropic(mock.text_block("Done."))
    )
    await quick.run(turn_of("go"), host)
    assert host.results == [(True, "one")]


# ------------------------------------------------------------------ usage


def chunks_with(usages: Sequence[dict[str, Any] | None]) -> list[str]:
    stream = []
    for usage in usages:
        chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}
        stream.append(f"data: {json.dumps({**chunk, 'usage': usage} if usage else chunk)}\n\n")
    end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [*stream, f"data: {json.dumps(end)}\n\n", "data: [DONE]\n\n"]


@pytest.mark.parametrize(
    "usages",
    [
        [{"prompt_tokens": 1000, "completion_tokens": n} for n in range(1, 101)],
        [{"prompt_tokens": 1000, "completion_tokens": 100}] * 50,
        [{"prompt_tokens": 1000, "completion_tokens": 100}, None, None],
        [None, None, {"prompt_tokens": 1000, "completion_tokens": 100}],
        [{"prompt_tokens": 1000.0, "completion_tokens": 100.0}],
        [{"prompt_tokens": 1000}, {"prompt_tokens": 0, "completion_tokens": 100}],
        [{"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": None}],
    ],
    ids=["running totals", "the same each time", "first", "last", "floats", "in two", "no details"],
)
async def test_usage_is_counted_once(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    usages: list[dict[str, Any] | None],
) -> None:
    configure(home, provider, "openai")
    provider.replies = mock.replies(chunks_with(usages))
    await quick.run(turn_of("go"), host)
    assert (host.total.input_tokens, host.total.output_tokens) == (1000, 100)


async def test_cached_tokens_that_are_known_late_are_not_counted_twice(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    late = {
        "prompt_tokens": 1000,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 800},
    }
    provider.replies = mock.replies(chunks_with([{"prompt_tokens": 1000}, late]))
    await quick.run(turn_of("go"), host)
    assert (host.total.input_tokens, host.total.cache_read_tokens) == (200, 800)


@pytest.mark.parametrize("usage", [None, "none", [], {"input_tokens": "many"}])
async def test_a_stream_without_usage_is_taken(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, usage: Any
) -> None:
    configure(home, provider, "anthropic")
    stream = mock.anthropic(mock.text_block("ok"))
    broken = [chunk.replace('"usage": {', '"other": {') for chunk in stream]
    if usage is not None:
        broken[0] = broken[0].replace('"other": {', f'"usage": {json.dumps(usage)}, "other": {{')
    provider.replies = mock.replies(broken)
    await quick.run(turn_of("go"), host)
    assert host.visible == "ok"
    assert host.total.input_tokens == 0


# ------------------------------------------------------------------ streams


def as_crlf(chunk: str) -> str:
    return chunk.replace("\n", "\r\n")


STREAMS: dict[str, Callable[[list[str]], list[str]]] = {
    "CR LF": lambda chunks: [as_crlf(chunk) for chunk in chunks],
    "no space after the colon": lambda chunks: [c.replace("data: ", "data:") for c in chunks],
    "a byte order mark": lambda chunks: ["\ufeff" + chunks[0], *chunks[1:]],
    "comments and heartbeats": lambda chunks: [
        one for chunk in chunks for one in (": ping\n\n", "data: ping\n\n", "retry: 5\n\n", chunk)
    ],
    "blocks without data": lambda chunks: [
        one for chunk in chunks for one in ("event: ping\n\n", "id: 1\n\n", chunk)
    ],
    "one byte at a time": lambda chunks: list("".join(chunks)),
    "all at once": lambda chunks: ["".join(chunks)],
    "no blank line at the end": lambda chunks: [*chunks[:-1], chunks[-1].rstrip("\n")],
}


@pytest.mark.parametrize("api", ["anthropic", "openai"])
@pytest.mark.parametrize("name", STREAMS)
async def test_streams_in_every_shape(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, name: str, api: str
) -> None:
    configure(home, provider, api)
    stream = (
        mock.anthropic(mock.text_block("Hello ", "there."))
        if api == "anthropic"
        else mock.openai({"content": "Hello "}, {"content": "there."})
    )
    provider.replies = mock.replies(STREAMS[name](stream))
    await quick.run(turn_of("go"), host)
    assert host.visible == "Hello there."


async def test_a_missing_last_word_is_no_fault_where_the_reason_came(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    provider.replies = mock.replies(mock.openai({"content": "ok"})[:-1])
    await quick.run(turn_of("go"), host)
    assert host.visible == "ok"


async def test_other_event_names_are_no_fault(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    stream = [f"event: completion.chunk\n{one}" for one in mock.openai({"content": "ok"})]
    provider.replies = mock.replies(stream)
    await quick.run(turn_of("go"), host)
    assert host.visible == "ok"


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_a_whole_answer_where_a_stream_was_asked_for_is_taken(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, kind: str
) -> None:
    configure(home, provider, "openai")
    call = {"id": "a", "type": "function", "function": {"name": "Bash", "arguments": ECHO}}
    message = {"role": "assistant", "content": "Look: ", "tool_calls": [call]}
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    whole = {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}
    provider.replies = [
        Reply([json.dumps(whole)], kind=kind),
        *mock.replies(mock.openai({"content": "Done."})),
    ]
    await quick.run(turn_of("go"), host)
    assert host.results == [(True, "one")]
    assert host.visible == "Look: Done."
    assert host.total.input_tokens == 9


async def test_a_whole_answer_of_the_other_api_too(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "ok"},
    ]
    whole = {
        "type": "message",
        "content": content,
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 4},
    }
    provider.replies = [Reply([json.dumps(whole)], kind="application/json")]
    await quick.run(turn_of("go"), host)
    assert (host.thought, host.visible) == ("hm", "ok")


async def test_thinking_that_a_server_leaves_in_the_text_is_thinking(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    pieces = ["<th", "ink>\nLet me", " see </thi", "nk>\n\nIt is <think> 4."]
    provider.replies = mock.replies(mock.openai(*({"content": one} for one in pieces)))
    await quick.run(turn_of("go"), host)
    assert host.thought == "\nLet me see "
    assert host.visible == "It is <think> 4."


async def test_content_in_parts_is_read(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "ok"},
    ]
    provider.replies = mock.replies(mock.openai({"content": parts}))
    await quick.run(turn_of("go"), host)
    assert (host.thought, host.visible) == ("hm", "ok")


# ------------------------------------------------------------------ ends that are no success


@pytest.mark.parametrize(
    ("api", "stream", "words"),
    [
        ("openai", mock.openai({"content": "Well"}, finish="content_filter"), "content filter"),
        ("openai", mock.openai({"content": "Well"}, finish="error"), "error"),
        ("openai", mock.openai({"content": "Well"}, finish="SAFETY"), "safety"),
        ("openai", mock.openai({"refusal": "I can't."}), "I can't."),
        ("anthropic", mock.anthropic(mock.text_block("Well"), stop="refusal"), "refused"),
    ],
)
async def test_an_end_that_is_no_success_is_said(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    api: str,
    stream: list[str],
    words: str,
) -> None:
    configure(home, provider, api)
    provider.replies = mock.replies(stream)
    with pytest.raises(TurnFailure, match=words):
        await quick.run(turn_of("go"), host)


async def test_an_error_at_the_end_is_tried_again_while_nothing_was_shown(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    provider.replies = mock.replies(
        mock.openai(finish="error"), mock.openai(finish="error"), mock.openai({"content": "ok"})
    )
    await quick.run(turn_of("go"), host)
    assert host.visible == "ok"


@pytest.mark.parametrize("api", ["anthropic", "openai"])
async def test_an_empty_answer_is_asked_for_again_and_then_said(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, api: str
) -> None:
    configure(home, provider, api)
    empty = mock.anthropic() if api == "anthropic" else mock.openai({"content": ""})
    text = (
        mock.anthropic(mock.text_block("ok"))
        if api == "anthropic"
        else mock.openai({"content": "ok"})
    )
    provider.replies = mock.replies(empty, empty, text)
    await quick.run(turn_of("go"), host)
    assert host.visible == "ok"
    provider.replies = mock.replies(empty, empty, empty)
    with pytest.raises(TurnFailure, match="empty answer"):
        await quick.run(turn_of("go"), MemoryHost(host.box))


async def test_thinking_without_an_answer_is_asked_to_go_on_and_then_said(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    thought = mock.openai({"reasoning_content": "hm"})
    provider.replies = mock.replies(thought, mock.openai({"content": "ok"}))
    await quick.run(turn_of("go"), host)
    assert host.visible == "ok"
    provider.replies = mock.replies(thought, thought, thought)
    with pytest.raises(TurnFailure, match="thought, but gave no answer"):
        await quick.run(turn_of("go"), MemoryHost(host.box))


async def test_a_paused_turn_is_continued(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = mock.replies(
        mock.anthropic(mock.text_block("First. "), stop="pause_turn"),
        mock.anthropic(mock.text_block("Second.")),
    )
    await quick.run(turn_of("go"), host)
    assert host.visible == "First. Second."
    last = provider.asked[1].body["messages"][-1]
    assert (last["role"], last["content"][0]["text"]) == ("assistant", "First. ")


async def test_a_call_cut_by_the_output_limit_is_told_and_three_alike_end_the_turn(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    cut = [
        mock.openai(
            mock.call_delta(0, '{"file_path": "a", "content": "' + "x" * n, id="c", name="Write"),
            finish="length",
        )
        for n in (100, 200, 300)
    ]
    provider.replies = mock.replies(*cut)
    with pytest.raises(TurnFailure, match="same failing call 3 times in a row"):
        await quick.run(turn_of("go"), host)
    assert len(provider.asked) == 3
    assert all("output limit" in told and "pieces" in told for _, told in host.results)


async def test_a_call_that_fails_the_same_way_again_and_again_ends_the_turn(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    same = mock.openai(mock.call_delta(0, '{"file_path": "no"}', id="c", name="Read"), finish="x")
    provider.replies = mock.replies(*[same] * 4)
    with pytest.raises(TurnFailure, match="same failing call"):
        await quick.run(turn_of("go"), host)
    assert len(provider.asked) == 3


async def test_different_failures_do_not_end_the_turn(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    calls = [
        mock.openai(mock.call_delta(0, json.dumps({"command": f"exit {n}"}), id="c", name="Bash"))
        for n in (1, 2, 1, 3)
    ]
    provider.replies = mock.replies(*calls, mock.openai({"content": "ok"}))
    await quick.run(turn_of("go"), host)
    assert host.visible == "ok"


# ------------------------------------------------------------------ errors in odd places


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, {"error": {"message": "no such model", "code": "x"}}, "no such model"),
        (200, {"error": "out of cheese"}, "out of cheese"),
        (200, {"code": 1211, "msg": "unknown model"}, "unknown model"),
        (200, {"detail": "Not authenticated"}, "Not authenticated"),
        (404, {"detail": "Not Found"}, "Not Found"),
        (422, {"detail": [{"loc": ["body", "tools"], "msg": "bad"}]}, "body.tools: bad"),
        (401, {"error": "invalid key"}, "invalid key"),
        (403, {"message": "no access"}, "no access"),
        (400, {"errors": [{"message": "one"}, {"message": "two"}]}, "one; two"),
        (400, [{"error": {"code": 400, "message": "in a list", "status": "INVALID"}}], "in a list"),
        (400, "plain words", "plain words"),
        (400, {"object": "error", "message": "of vLLM"}, "of vLLM"),
        (402, {"error": {"message": "Insufficient credits", "code": 402}}, "Insufficient credits"),
    ],
)
async def test_errors_are_the_provider_s_own_words_with_the_address(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    status: int,
    body: Any,
    words: str,
) -> None:
    configure(home, provider, "openai")
    text = body if isinstance(body, str) else json.dumps(body)
    provider.replies = [Reply([text], status, kind="application/json")] * 8
    with pytest.raises(TurnFailure, match=words) as caught:
        await quick.run(turn_of("go"), host)
    assert f"{provider.url}/v1/chat/completions" in caught.value.message
    assert KEY not in caught.value.message


async def test_a_login_page_is_said(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    page = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
    provider.replies = [Reply([page], 200, kind="text/html")]
    with pytest.raises(TurnFailure, match=r"web page titled 'Sign in'.*baseUrl"):
        await quick.run(turn_of("go"), host)
    provider.replies = [Reply([page], 403, kind="text/html")]
    with pytest.raises(TurnFailure, match="web page titled 'Sign in'"):
        await quick.run(turn_of("go"), host)


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "the GPU is on fire", "code": 400}},
        {"error": "the GPU is on fire"},
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "the GPU is on fire"},
        },
        {"object": "error", "message": "the GPU is on fire"},
        {"code": "1302", "message": "the GPU is on fire"},
    ],
)
@pytest.mark.parametrize("api", ["anthropic", "openai"])
async def test_an_error_inside_the_stream_is_said(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    event: dict[str, Any],
    api: str,
) -> None:
    configure(home, provider, api)
    provider.replies = [Reply([f"data: {json.dumps(event)}\n\n"])]
    with pytest.raises(TurnFailure, match="the GPU is on fire"):
        await quick.run(turn_of("go"), host)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("stream_options", "Unrecognized request argument supplied: stream_options"),
        ("tool_choice", '{"loc":["body","tool_choice"],"msg":"extra fields not permitted"}'),
        ("max_completion_tokens", "Unsupported parameter: max_completion_tokens, use max_tokens"),
    ],
)
async def test_an_optional_field_that_is_refused_is_left_out_and_remembered(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    field: str,
    words: str,
) -> None:
    configure(home, provider, "openai", maxTokens=500)
    refusal = Reply([json.dumps({"error": {"message": words}})], 400, kind="application/json")
    provider.replies = [
        refusal,
        *mock.replies(mock.openai({"content": "a"}), mock.openai({"content": "b"})),
    ]
    await quick.run(turn_of("go"), host)
    await quick.run(turn_of("again"), host)
    assert host.visible == "ab"
    assert [field in asked.body for asked in provider.asked] == [True, False, False]
    if field == "max_completion_tokens":
        assert provider.asked[1].body["max_tokens"] == 500


async def test_a_smaller_output_limit_is_kept_to(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic", maxTokens=100_000)
    words = "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens"
    provider.replies = [
        Reply([mock.anthropic_error("invalid_request_error", words)], 400, kind="application/json"),
        *mock.replies(mock.anthropic(mock.text_block("ok"))),
    ]
    await quick.run(turn_of("go"), host)
    assert provider.asked[1].body["max_tokens"] == 8192


# ------------------------------------------------------------------ keys, headers, addresses


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("sk-abc\ndef", "line break"),
        ("sk-\x00", "NUL"),
        ("\u201csk-abc\u201d", "quotation mark"),
        ("sk-\u00a0abc", "space"),
        ("sk-ключ", "U\\+043A"),
    ],
)
async def test_a_key_that_cannot_be_a_header_is_said_in_one_sentence(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, key: str, what: str
) -> None:
    configure(home, provider, "openai")
    folder = home / "vaults" / "default" / "envs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "THE_KEY").write_text(key)
    config = json.loads((home / "config.json").read_text())
    for one in config["providers"].values():
        one["apiKey"] = "${THE_KEY}"
    (home / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=what) as caught:
        await quick.run(turn_of("go"), host)
    assert "THE_KEY" in str(caught.value)
    assert key not in str(caught.value)
    assert not provider.asked


async def test_headers_and_query_of_a_provider_are_sent(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    config = json.loads((home / "config.json").read_text())
    for one in config["providers"].values():
        one.pop("apiKey")
        one["headers"] = {"api-key": "azure-key", "X-Title": "loopat"}
        one["query"] = {"api-version": "2026-01-01"}
    (home / "config.json").write_text(json.dumps(config))
    provider.replies = mock.replies(mock.openai({"content": "ok"}))
    await quick.run(turn_of("go"), host)
    [asked] = provider.asked
    assert asked.path == "/v1/chat/completions?api-version=2026-01-01"
    assert asked.headers["api-key"] == "azure-key"
    assert asked.headers["x-title"] == "loopat"
    assert "authorization" not in asked.headers
