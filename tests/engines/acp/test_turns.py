"""One agent, one turn: what is shown of what it does, and how its end is understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loopat_jupyter.engines.acp.engine import AcpEngine
from loopat_jupyter.loops.errors import TurnFailure

from .conftest import INSTRUCTIONS, Host, configure, processes, scripted, steps

pytestmark = pytest.mark.slow(6)


def call(id: str = "t1", **fields: object) -> list[object]:
    return ["update", {"sessionUpdate": "tool_call", "toolCallId": id, "title": "x", **fields}]


def change(id: str = "t1", **fields: object) -> list[object]:
    return ["update", {"sessionUpdate": "tool_call_update", "toolCallId": id, **fields}]


def words(text: str) -> list[object]:
    return [{"type": "content", "content": {"type": "text", "text": text}}]


async def test_text_and_thoughts_stream_in_order(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted())
    await engine.run(steps(["thought", "hm"], ["text", "Hel"], ["text", "lo"]), host)
    assert host.events == [("thinking", "hm"), ("text", "Hel"), ("text", "lo")]
    assert [one["update"]["sessionUpdate"] for one in host.raw] == [
        "agent_thought_chunk",
        "agent_message_chunk",
        "agent_message_chunk",
    ]


async def test_many_updates_keep_their_order(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted())
    await engine.run(steps(["many", 2000]), host)
    assert host.visible == "".join(f"{number} " for number in range(2000))


async def test_a_call_is_announced_once_with_what_it_runs_and_ends_once(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    turn = steps(
        call(kind="execute", status="pending", title="bash", rawInput={"cwd": "/workdir"}),
        change(status="in_progress", title="Count", rawInput={"command": "ls | wc -l"}),
        change(status="in_progress", content=words("1")),
        change(status="completed", content=words("12"), rawOutput={"exit_code": 0}),
        change(status="completed", content=words("again")),
        ["text", "Twelve."],
    )
    await engine.run(turn, host)
    assert host.events == [
        ("call", "t1", "Bash", {"command": "ls | wc -l"}),
        ("result", "t1", True, "12"),
        ("text", "Twelve."),
    ]


@pytest.mark.parametrize(
    ("update", "tool", "shown"),
    [
        (
            {"kind": "execute", "rawInput": {"command": ["bash", "-lc", "a | b"]}},
            "Bash",
            {"command": "a | b"},
        ),
        (
            {"kind": "execute", "rawInput": {"command": ["ls", "a b"]}},
            "Bash",
            {"command": "ls 'a b'"},
        ),
        ({"kind": "execute", "title": "Run it all"}, "execute: Run it all", {}),
        ({"kind": "read", "rawInput": {"filePath": "a"}}, "Read", {"file_path": "a"}),
        ({"kind": "read", "locations": [{"path": "a"}]}, "Read", {"file_path": "a"}),
        (
            {"kind": "edit", "rawInput": {"filePath": "a", "content": "b"}},
            "Write",
            {"file_path": "a", "content": "b"},
        ),
        (
            {"kind": "edit", "content": [{"type": "diff", "path": "a", "newText": "n"}],
             "locations": [{"path": "a"}]},
            "Edit",
            {"file_path": "a", "old_string": "", "new_string": "n"},
        ),
        ({"kind": "fetch", "rawInput": {"url": "u"}}, "WebFetch", {"url": "u"}),
        ({"title": "todowrite"}, "todowrite", {}),
        ({"kind": "other", "title": "Bash"}, "other: Bash", {}),
        (
            {"title": "Network", "rawInput": {"host": "example.org", "port": 443}},
            "other: Network",
            {"host": "example.org", "port": 443},
        ),
        ({"kind": "of tomorrow", "title": "Do a thing"}, "of tomorrow: Do a thing", {}),
    ],
)  # fmt: skip
async def test_a_call_is_named_by_what_it_does(
    engine: AcpEngine, host: Host, home: Path, update: dict, tool: str, shown: dict
) -> None:
    configure(home, scripted())
    await engine.run(steps(call(**update)), host)
    assert host.calls == {"t1": (tool, shown)}


@pytest.mark.parametrize(
    ("end", "ok", "text"),
    [
        ({"status": "completed"}, True, "(no output)"),
        ({"status": "failed", "content": words("no such file")}, False, "no such file"),
        ({"status": "completed", "rawOutput": "raw"}, True, "raw"),
        ({"status": "completed", "rawOutput": {"output": "raw"}}, True, "raw"),
        (
            {"status": "completed", "content": words("x"), "rawOutput": {"metadata": {"exit": 3}}},
            False,
            "x\nexit code 3",
        ),
        (
            {"status": "completed", "content": [{"type": "diff", "path": "a", "newText": ""}]},
            True,
            "Changed a",
        ),
        (
            {
                "status": "completed",
                "content": [
                    {"type": "content", "content": {"type": "image", "mimeType": "image/png"}},
                    {"type": "terminal", "terminalId": "t"},
                ],
            },
            True,
            "(an image was left out here: image/png)\n(the output of a terminal was left out here)",
        ),
        ({"status": "in_progress"}, False, "The agent did not say how this ended."),
    ],
)
async def test_the_result_of_a_call(
    engine: AcpEngine, host: Host, home: Path, end: dict, ok: bool, text: str
) -> None:
    configure(home, scripted())
    await engine.run(steps(call(kind="execute"), change(**end)), host)
    assert host.results == {"t1": (ok, text)}


async def test_a_call_comes_before_the_text_that_follows_it(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    await engine.run(steps(call(kind="read"), ["text", "and so"]), host)
    assert [one[0] for one in host.events] == ["call", "text", "result"]


async def test_what_is_no_text_is_named(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted())
    chunks = [
        {"type": "image", "mimeType": "image/png", "data": "AAAA"},
        {"type": "resource_link", "name": "notes", "uri": "file:///workdir/n"},
        {"type": "resource", "resource": {"uri": "file:///x", "text": "inside"}},
        {"type": "hologram"},
    ]
    await engine.run(
        steps(
            *(
                ["update", {"sessionUpdate": "agent_message_chunk", "content": chunk}]
                for chunk in chunks
            )
        ),
        host,
    )
    assert [one[1] for one in host.events] == [
        "(an image was left out here: image/png)",
        "notes (file:///workdir/n)",
        "inside",
        "(something was left out here)",
    ]


async def test_updates_of_kinds_that_nobody_knows_are_raw_only(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    plan = {"sessionUpdate": "plan", "entries": []}
    await engine.run(steps(["update", plan], ["update", {"sessionUpdate": "dream"}]), host)
    assert host.events == []
    assert [one["update"]["sessionUpdate"] for one in host.raw] == ["plan", "dream"]


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        ("max_tokens", "agent_error", "output limit"),
        ("max_turn_requests", "budget_exceeded", "as often as it may"),
        ("refusal", "agent_error", "refused"),
        ("cancelled", "agent_error", "nobody had interrupted"),
        ("of tomorrow", "agent_error", "not of the Agent Client Protocol"),
    ],
)
async def test_an_end_that_is_not_the_agents_own(
    engine: AcpEngine, host: Host, home: Path, reason: str, code: str, words: str
) -> None:
    configure(home, scripted())
    with pytest.raises(TurnFailure, match=words) as failed:
        await engine.run(steps(["text", "so far"], ["stop", reason]), host)
    assert failed.value.event_code == code
    assert host.visible == "so far"


async def test_usage_is_the_turns(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted())
    usage = {"totalTokens": 20, "inputTokens": 10, "outputTokens": 7, "cachedReadTokens": 3}
    await engine.run(steps(["result", {"stopReason": "end_turn", "usage": usage}]), host)
    assert (host.total.input_tokens, host.total.output_tokens) == (10, 7)
    assert (host.total.cache_read_tokens, host.total.cache_write_tokens) == (3, 0)


async def test_the_agents_own_error_is_the_turns(engine: AcpEngine, host: Host, home: Path) -> None:
    configure(home, scripted())
    problem = {"code": -32603, "message": "Internal error: the provider said no"}
    with pytest.raises(TurnFailure, match=r"'bot' failed: the provider said no$"):
        await engine.run(steps(["error", problem]), host)
    problem = {"code": -32603, "message": "Internal error", "data": {"details": "no key"}}
    with pytest.raises(TurnFailure, match=r"'bot' failed: no key$"):
        await engine.run(steps(["error", problem]), host)
    await engine.run(steps(["text", "fine again"]), host)
    assert host.visible == "fine again"


async def test_the_first_message_comes_after_what_holds_in_the_loop(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    turn = steps(["prompt"])
    await engine.run(turn, host)
    instructions, message = json.loads(host.visible)
    assert INSTRUCTIONS in instructions
    assert message == turn.content


async def test_one_process_serves_turn_after_turn(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    first = steps(["text", "one"])
    await engine.run(first, host)
    host.next_turn(first)
    before = await processes(host.sandbox_)
    second = steps(["prompt"], id="turn_2")
    await engine.run(second, host)
    assert json.loads(host.visible) == [second.content]
    assert await processes(host.sandbox_) == before
    assert len(before) == 1
    await engine.close_loop("loop_1")
    assert await processes(host.sandbox_) == []


async def test_the_environment_is_what_the_configuration_says(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted(env={"PLAIN": "{braces} $X", "DEEP": {"a": {"b": [1]}}}))
    await engine.run(steps(["env", "PLAIN"], ["env", "DEEP"], ["env", "HOME"]), host)
    assert host.visible == '{braces} $X{"a": {"b": [1]}}' + host.sandbox_.home
