"""What an agent does, seen through the API: failing tools, files that stay, long output."""

import pytest

from tests.support.caller import Caller
from tests.support.mock_model import MockModel, Part, Script, Text, Thinking, Tool, bash
from tests.support.server import ENGINE
from tests.support.sse import Event

pytestmark = pytest.mark.slow(6)

AUTO = {"mode": "auto"}


def results(events: list[Event]) -> list[bool]:
    return [e.data["ok"] for e in events if e.name == "tool_result"]


async def one_call(api: Caller, model: MockModel, *calls: Part) -> tuple[list[Event], Script]:
    """A turn that makes these calls at once and then says goodbye."""
    script = model.script(list(calls), [Text("goodbye")])
    events = await api.turn(await api.loop(), script.message(), mode="auto")
    assert events[-1].name == "done"
    assert "goodbye" in "".join(e.data.get("text", "") for e in events)
    return events, script


@pytest.mark.parametrize(
    ("tool", "hint"),
    [
        (bash("exit 7"), "7"),
        (bash("no-such-program-here"), "not found"),
        (Tool("Read", {"file_path": "missing.txt"}), "missing.txt"),
        (Tool("NoSuchTool", {"a": 1}), "NoSuchTool"),
        (Tool("Bash", '{"command": '), "JSON"),
        (Tool("Bash", '["ls"]'), ""),
        (Tool("Bash", {}), "command"),
        (Tool("Bash", {"command": 5}), "command"),
        (Tool("Write", {"file_path": "a.txt"}), "content"),
        (Tool("Edit", {"file_path": "a", "old_string": "x", "new_string": "y"}), ""),
        (Tool("Grep", {"pattern": "("}), ""),
        (Tool("Bash", {"command": "a\x00b"}), ""),
    ],
    ids=lambda v: v.name if isinstance(v, Tool) else "",
)
async def test_a_failing_call_is_told_to_the_agent_and_the_turn_goes_on(
    api: Caller, model: MockModel, tool: Tool, hint: str
) -> None:
    events, script = await one_call(api, model, tool)
    assert results(events) == [False]
    told = script.requests[1].tool_results()[0]
    assert (hint in told) if ENGINE == "builtin" else told  # other agents have words of their own


async def test_the_same_call_id_from_the_model_twice_is_still_two_calls(
    api: Caller, model: MockModel
) -> None:
    first, again = bash("echo 1 >> n"), bash("echo 2 >> n")
    again = Tool(again.name, again.input, id=first.id)
    script = model.script([first], [again], [Text("ok")])
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message(), mode="auto")
    assert events[-1].name == "done"
    assert results(events) == [True, True]
    assert (api.server.workdir(loop_id) / "n").read_text() == "1\n2\n"


@pytest.mark.builtin("results in the order of the calls")
async def test_parallel_calls_each_get_their_own_result(api: Caller, model: MockModel) -> None:
    events, script = await one_call(api, model, *(bash(f"echo number {n}") for n in range(5)))
    assert results(events) == [True] * 5
    assert [f"number {n}" in r for n, r in enumerate(script.requests[1].tool_results())] == [
        True
    ] * 5


async def test_files_tools_and_shell_share_one_workdir(api: Caller, model: MockModel) -> None:
    read = Tool("Read", {"file_path": "dir/a.txt"})
    glob = Tool("Glob", {"pattern": "**/*.txt"})
    grep = Tool("Grep", {"pattern": "deux", "output_mode": "content"})
    shell = bash("cat dir/a.txt; pwd")
    script = model.script(
        [Tool("Write", {"file_path": "dir/a.txt", "content": "one\ntwo\n"})],
        [Tool("Edit", {"file_path": "dir/a.txt", "old_string": "two", "new_string": "deux"})],
        [read, glob],
        [grep, shell],
        [Text("ok")],
    )
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message(), mode="auto")
    assert results(events) == [True] * 6
    told = script.requests[4].results_of_calls()
    assert "deux" in told[read.id]
    assert "dir/a.txt" in told[glob.id]
    assert "deux" in told[grep.id]
    assert "one\ndeux" in told[shell.id]
    assert (api.server.workdir(loop_id) / "dir" / "a.txt").read_text() == "one\ndeux\n"


async def test_background_processes_outlive_the_turn_that_made_them(
    api: Caller, model: MockModel
) -> None:
    loop_id = await api.loop()
    first = model.script([bash("mkfifo p; (read x < p; echo got $x > out) & echo ok")], [Text("a")])
    await api.turn(loop_id, first.message(), mode="auto")
    second = model.script(
        [bash("echo hello > p; wait; sync; until [ -s out ]; do :; done; cat out")], [Text("b")]
    )
    await api.turn(loop_id, second.message(), mode="auto")
    assert "got hello" in second.requests[1].tool_results()[-1]


@pytest.mark.builtin("its tool has run_in_background")
async def test_a_background_call_returns_at_once(api: Caller, model: MockModel) -> None:
    events, _ = await one_call(api, model, bash("sleep 500", run_in_background=True))
    assert results(events) == [True]


async def test_a_call_that_takes_too_long_is_ended_and_told(api: Caller, model: MockModel) -> None:
    events, script = await one_call(api, model, bash("echo begun; sleep 500", timeout=1000))
    assert results(events) == [False]
    told = script.requests[1].tool_results()[0]
    assert "begun" in told


@pytest.mark.builtin("how much of an output it shows")
async def test_long_output_keeps_head_and_tail_and_the_rest_in_a_file(
    api: Caller, model: MockModel
) -> None:
    script = model.script([bash("seq 1 200000")], [Text("ok")])
    loop_id = await api.loop()
    await api.turn(loop_id, script.message(), mode="auto")
    told = script.requests[1].tool_results()[0]
    assert len(told.encode()) < 110 * 1024
    assert told.startswith("1\n2\n3\n")
    assert "200000" in told[-400:]


async def test_thinking_is_shown_apart_from_the_text(api: Caller, model: MockModel) -> None:
    events, _ = await one_call(api, model, Thinking("hidden thought"), Text("said "), bash("true"))
    assert [e.data["text"] for e in events if e.name == "thinking_delta"] == ["hidden thought"]
    assert "".join(e.data["text"] for e in events if e.name == "assistant_delta") == "said goodbye"


async def test_text_of_any_kind_survives_the_stream(api: Caller, model: MockModel) -> None:
    odd = 'a\r\nb\n\nid: 3\nevent: done\ndata: {}\n\n\u2028\u2029\u0085\t"\\ 🐍 \x1b[31m </script>'
    script = model.script([Text(odd), Text("🐍"[:1]), Text("end")])
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message())
    assert "".join(e.data.get("text", "") for e in events) == odd + "🐍end"


async def test_tool_output_that_is_not_utf8_is_shown_with_replacements(
    api: Caller, model: MockModel
) -> None:
    events, script = await one_call(api, model, bash("printf 'a\\xff\\x00b'"))
    assert results(events) == [True]
    assert "a" in script.requests[1].tool_results()[0]
