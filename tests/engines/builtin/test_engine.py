"""Tool calls, permissions, suspension and resumption, cancellation, limits."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.builtin.engine import BuiltinEngine, EngineLimits
from loopat_jupyter.loops.errors import SandboxLost, TurnFailure
from loopat_jupyter.loops.ports.engine import TurnSuspended
from loopat_jupyter.loops.ports.sandbox import CommandResult
from tests.engines import mock_provider as mock
from tests.engines.conftest import configure
from tests.engines.memory_host import DirectorySandbox, MemoryHost, turn_of
from tests.engines.mock_provider import MockProvider, Reply


def calls(*wanted: tuple[str, str, dict[str, Any]]) -> list[str]:
    """An answer with these calls: id, tool, input."""
    blocks = [mock.call_block(one, tool, json.dumps(given)) for one, tool, given in wanted]
    return mock.anthropic(*blocks)


def end(text: str = "Done.") -> list[str]:
    return mock.anthropic(mock.text_block(text))


def bash(id: str, command: str) -> tuple[str, str, dict[str, Any]]:
    return (id, "Bash", {"command": command})


# ------------------------------------------------------------------ waiting for a person


async def test_what_needs_nobody_has_run_and_is_journaled_when_the_turn_waits(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, workdir: Path
) -> None:
    configure(home, provider, "anthropic")
    host.ask = {"b", "c"}
    provider.replies = mock.replies(
        calls(
            bash("a", "echo a >> log"),
            bash("b", "echo b >> log"),
            bash("c", "echo c >> log"),
            bash("d", "echo d >> log"),
        ),
        end(),
    )
    turn = turn_of("go")
    with pytest.raises(TurnSuspended):
        await quick.run(turn, host)
    assert sorted((workdir / "log").read_text().split()) == ["a", "d"]
    assert {entry["id"] for entry in host.entries if entry["type"] == "result"} == {"a", "d"}
    assert host.pending == ["b"]

    host.answer(True)
    with pytest.raises(TurnSuspended):
        await quick.run(host.resumed(turn), host)
    assert (workdir / "log").read_text().split()[2:] == ["b"]
    assert host.pending == ["c"]

    host.answer(False)
    await quick.run(host.resumed(turn), host)
    assert sorted((workdir / "log").read_text().split()) == ["a", "b", "d"]
    assert host.visible == "Done."
    assert len(provider.asked) == 2
    sent = provider.asked[1].body["messages"][-1]["content"]
    assert [one["tool_use_id"] for one in sent] == ["a", "b", "c", "d"]
    assert "User denied permission" in json.dumps(sent[2])
    assert sent[2]["is_error"] is True


async def test_a_question_among_other_calls(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    asked = {
        "questions": [
            {
                "question": "Which?",
                "header": "Pick",
                "options": [
                    {"label": "A", "description": "first"},
                    {"label": "B", "description": ""},
                ],
                "multiSelect": True,
            },
            {"question": "Sure?", "options": [{"label": "Yes"}, {"label": "No"}]},
        ]
    }
    provider.replies = mock.replies(
        calls(("q", "AskUserQuestion", asked), bash("a", "echo a")), end()
    )
    turn = turn_of("go")
    with pytest.raises(TurnSuspended):
        await quick.run(turn, host)
    assert host.results == [(True, "a")]
    (first, second) = next(one[2] for one in host.events if one[0] == "question")
    assert (first.id, first.header, first.multi_select) == ("q1", "Pick", True)
    assert (second.id, second.header, second.multi_select) == ("q2", None, False)
    assert first.options[0].description == "first"
    assert first.options[1].description is None
    host.answer({"q1": ["A", "B"], "q2": "Perhaps"})
    await quick.run(host.resumed(turn), host)
    assert host.results[1] == (True, "The user answered:\n- Which? A, B\n- Sure? Perhaps")
    assert not [one for one in host.events if one[0] == "permission" and one[1] == "q"]


async def test_a_server_that_died_while_others_ran_runs_nothing_twice(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, workdir: Path
) -> None:
    configure(home, provider, "anthropic")
    host.ask = {"b"}
    provider.replies = mock.replies(
        calls(bash("a", "echo a >> log; sleep 60"), bash("b", "echo b >> log")), end()
    )
    turn = turn_of("go")
    task = asyncio.create_task(quick.run(turn, host))
    async with asyncio.timeout(20):
        await host.box.running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    host.answer(True)
    await quick.run(host.resumed(turn), host)
    assert (workdir / "log").read_text().split().count("a") <= 1
    result = next(one for one in host.events if one[0] == "result" and one[1] == "a")
    assert result[2] is False
    assert "result was lost" in result[3]
    assert host.visible == "Done."


async def test_a_turn_waits_again_in_its_next_step(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    host.ask = {"Bash"}
    provider.replies = mock.replies(calls(bash("x", "echo 1")), calls(bash("y", "echo 2")), end())
    turn = turn_of("go")
    for _ in range(2):
        with pytest.raises(TurnSuspended):
            await quick.run(host.resumed(turn), host)
        host.answer(True)
    await quick.run(host.resumed(turn), host)
    assert host.results == [(True, "1"), (True, "2")]
    assert len(provider.asked) == 3


# ------------------------------------------------------------------ permission


async def test_kinds_titles_and_whether_an_edit_stays_inside(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, workdir: Path
) -> None:
    configure(home, provider, "anthropic")
    (workdir / "f").write_text("old")
    host.confine = True
    provider.replies = mock.replies(
        calls(
            ("1", "Read", {"file_path": "f", "surplus": 1}),
            ("2", "Glob", {"pattern": "*"}),
            ("3", "Grep", {"pattern": "old"}),
            ("4", "Write", {"file_path": "g", "content": "x"}),
            ("5", "Edit", {"file_path": "f", "old_string": "old", "new_string": "new"}),
            ("6", "Bash", {"command": "true", "description": "Do nothing"}),
        ),
        end(),
    )
    await quick.run(turn_of("go"), host)
    asked = {one[1]: one for one in host.events if one[0] == "permission"}
    kinds = {key: one[4]["kind"] for key, one in asked.items()}
    assert kinds == {
        "1": "read",
        "2": "read",
        "3": "read",
        "4": "edit",
        "5": "edit",
        "6": "other",
    }
    assert asked["4"][4]["inside_workdir"] is True
    assert asked["6"][4]["title"] == "Do nothing"
    assert asked["1"][3] == {"file_path": "f"}
    assert host.box.confined == [True, True]
    assert (workdir / "f").read_text() == "new"


async def test_an_edit_through_a_symlink_is_outside(
    quick: BuiltinEngine,
    host: MemoryHost,
    provider: MockProvider,
    home: Path,
    workdir: Path,
    tmp_path: Path,
) -> None:
    configure(home, provider, "anthropic")
    (workdir / "out").symlink_to(tmp_path)
    host.deny = {"Write"}
    provider.replies = mock.replies(
        calls(("1", "Write", {"file_path": "out/x", "content": ""})), end()
    )
    await quick.run(turn_of("go"), host)
    asked = next(one for one in host.events if one[0] == "permission")
    assert asked[4]["inside_workdir"] is False
    assert "User denied permission" in host.results[0][1]
    assert "The mode does not allow it." in host.results[0][1]


# ------------------------------------------------------------------ ids, limits, loss


async def test_ids_are_unique_in_the_turn_and_the_model_sees_the_new_ones(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = mock.replies(
        calls(bash("same", "echo 1"), bash("same", "echo 2")),
        calls(bash("same", "echo 3")),
        end(),
    )
    await quick.run(turn_of("go"), host)
    ids = [one[1] for one in host.events if one[0] == "call"]
    assert ids[0] == "same"
    assert len(set(ids)) == 3
    messages = provider.asked[2].body["messages"]
    used = [
        part["id"]
        for message in messages
        if message["role"] == "assistant"
        for part in message["content"]
        if part["type"] == "tool_use"
    ]
    assert used == ids


async def test_ids_are_unique_in_the_conversation_too(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    first = turn_of("go")
    provider.replies = mock.replies(calls(bash("call_0", "true")), end())
    await quick.run(first, host)
    later = MemoryHost(host.box, past=[host.ended(first)])
    provider.replies = mock.replies(calls(bash("call_0", "true")), end())
    await quick.run(turn_of("again", "turn_2"), later)
    ids = [one[1] for one in [*host.events, *later.events] if one[0] == "call"]
    assert len(set(ids)) == 2


async def test_a_model_that_never_ends_is_ended(
    home: Path, host: MemoryHost, provider: MockProvider
) -> None:
    configure(home, provider, "anthropic")

    async def nothing(_: object) -> str:
        return ""

    engine = BuiltinEngine(home, nothing, EngineLimits(model_calls=3))
    provider.replies = mock.replies(*[calls(bash("x", "true"))] * 3)
    with pytest.raises(TurnFailure) as caught:
        await engine.run(turn_of("go"), host)
    assert caught.value.event_code == "budget_exceeded"
    assert len(host.results) == 3
    await engine.close()


async def test_an_answer_cut_at_its_output_limit_is_an_error_but_kept(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = mock.replies(mock.anthropic(mock.text_block("So far"), stop="max_tokens"))
    with pytest.raises(TurnFailure, match="output limit"):
        await quick.run(turn_of("go"), host)
    assert host.entries[-1]["parts"][0]["text"] == "So far"


async def test_a_sandbox_that_ends_under_a_tool_is_a_failed_result(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")

    class Dying(DirectorySandbox):
        async def run(
            self, command: str, *, timeout: float, background: bool = False
        ) -> CommandResult:
            raise SandboxLost("It ran out of memory.")

    host.box = Dying(Path(host.box.workdir))
    provider.replies = mock.replies(calls(bash("x", "true")), end())
    await quick.run(turn_of("go"), host)
    ((ok, text),) = host.results
    assert not ok
    assert "ran out of memory" in text


async def test_half_characters_are_made_whole_everywhere(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path, workdir: Path
) -> None:
    configure(home, provider, "openai")
    provider.replies = mock.replies(
        mock.openai(
            {"content": "a \ud83d"},
            {"content": "\ude00 b \ud83d"},
            {"content": " c"},
            mock.call_delta(
                0, '{"file_path": "f", "content": "\\ud83d\\ude00 \\ud800"}', id="w", name="Write"
            ),
            finish="tool_calls",
        ),
        mock.openai({"content": "ok"}),
    )
    await quick.run(turn_of("go"), host)
    assert host.visible == "a \U0001f600 b \ufffd cok"
    assert (workdir / "f").read_text() == "\U0001f600 \ufffd"
    json.dumps(host.entries, ensure_ascii=False).encode()


async def test_nan_is_not_json(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "openai")
    call = mock.call_delta(0, '{"command": "ls", "timeout": NaN}', id="x", name="Bash")
    provider.replies = mock.replies(
        mock.openai(call, finish="tool_calls"), mock.openai({"content": "ok"})
    )
    await quick.run(turn_of("go"), host)
    assert "not a valid JSON object" in host.results[0][1]


# ------------------------------------------------------------------ cancellation


async def test_interrupting_a_tool_kills_it_and_its_siblings(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    provider.replies = mock.replies(calls(bash("a", "sleep 60"), bash("b", "sleep 60")))
    task = asyncio.create_task(quick.run(turn_of("go"), host))
    async with asyncio.timeout(20):
        await host.box.running.wait()
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert host.box.killed
    assert host.results == []


async def test_interrupting_a_wait_between_two_attempts(
    quick: BuiltinEngine, host: MemoryHost, provider: MockProvider, home: Path
) -> None:
    configure(home, provider, "anthropic")
    body = [mock.anthropic_error("rate_limit_error", "later")]
    provider.replies = [Reply(body, 429, {"retry-after": "25"}, kind="application/json")]
    task = asyncio.create_task(quick.run(turn_of("go"), host))
    async with asyncio.timeout(20):
        await provider.served.wait()
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
