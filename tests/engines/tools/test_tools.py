"""The tools in a real sandbox, as the agent sees them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.builtin.tool_calls import run_tool_calls
from loopat_jupyter.engines.models.messages import ModelReply, ModelStep, ReplyToolCall
from loopat_jupyter.engines.tools.inputs import BashInput
from loopat_jupyter.engines.tools.outcome import RESULT_LIMIT, ToolLimits, truncate_middle
from loopat_jupyter.engines.tools.tools import TOOLS
from loopat_jupyter.loops.ports.sandbox import Sandbox, SandboxSpec
from loopat_jupyter.sandboxes.registry import select_tier
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings
from tests.engines.memory_host import MemoryHost


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    home = tmp_path / "loopat-home"
    place = home / "loops" / "loop_1"
    for name in ("workdir", "home"):
        (place / name).mkdir(parents=True)
    home.chmod(0o700)
    tier = select_tier("auto", SandboxSettings(run_dir=home / "run", masks=(home,)))
    sandbox = tier.create(SandboxSpec("loop_1", place / "workdir", place / "home"))
    await sandbox.start()
    yield sandbox
    await sandbox.stop()
    tier.close()


@pytest.fixture
async def real(sandbox: Sandbox) -> MemoryHost:
    return MemoryHost(sandbox)  # type: ignore[arg-type]


async def use(host: MemoryHost, tool: str, **given: Any) -> tuple[bool, str]:
    """The result of one call, after permission and journal."""
    number = len(host.results)
    call = ReplyToolCall(f"call_{number}", tool, given)
    await run_tool_calls(ModelStep(ModelReply((call,))), host, ToolLimits())
    return host.results[number]


async def test_bash_reports_output_and_exit_code(real: MemoryHost) -> None:
    assert await use(real, "Bash", command="echo out; echo err >&2") == (True, "out\nerr")
    assert await use(real, "Bash", command="true") == (True, "(no output)")
    assert await use(real, "Bash", command="echo no; exit 7") == (False, "no\nexit code 7")
    ok, text = await use(real, "Bash", command="kill -9 $$")
    assert not ok
    assert "-9" in text


async def test_bash_works_in_the_workdir_and_files_stay(real: MemoryHost) -> None:
    assert (await use(real, "Bash", command="cd /tmp; pwd > ~/here; echo x > f"))[0]
    ok, text = await use(real, "Bash", command="pwd")
    assert ok
    assert text == real.box.workdir


async def test_bash_times_out_in_milliseconds_or_seconds(real: MemoryHost) -> None:
    ok, text = await use(real, "Bash", command="echo begun; sleep 60", timeout=1000)
    assert not ok
    assert "begun" in text
    assert "Timed out after 1 s" in text


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(None, 120), (5, 5), (999, 600), (1000, 1), (120000, 120), (900000, 600), (0.5, 0.5)],
)
def test_the_timeout_is_milliseconds_like_models_send_or_small_seconds(
    asked: float | None, seconds: float
) -> None:
    given = {"command": "x"} if asked is None else {"command": "x", "timeout": asked}
    assert BashInput.model_validate(given).seconds(120, 600) == seconds


async def test_a_background_command_names_its_output_file(real: MemoryHost) -> None:
    ok, text = await use(real, "Bash", command="echo soon; sleep 60", run_in_background=True)
    assert ok
    assert "background" in text
    path = text.rpartition(" ")[2].rstrip(".")
    ok, text = await use(real, "Bash", command=f"tail -n +1 -f {path} | head -n 1")
    assert (ok, text) == (True, "soon")


async def test_long_output_keeps_head_and_tail_and_the_rest_can_be_read(real: MemoryHost) -> None:
    ok, text = await use(real, "Bash", command="seq 1 100000")
    assert ok
    assert len(text.encode()) <= RESULT_LIMIT + 300
    assert text.startswith("1\n2\n")
    assert text.endswith("99999\n100000")
    path = next(word.strip(".,;:()[]") for word in text.split() if word.strip("([").startswith("/"))
    assert (await use(real, "Bash", command=f"sed -n 50000p {path}")) == (True, "50000")


async def test_read_numbers_the_lines_and_says_how_to_read_on(real: MemoryHost) -> None:
    await use(real, "Write", file_path="f", content="".join(f"line {n}\n" for n in range(1, 6)))
    assert await use(real, "Read", file_path="f", offset=4) == (
        True,
        "     4\tline 4\n     5\tline 5",
    )
    ok, text = await use(real, "Read", file_path="f", limit=2)
    assert ok
    assert "lines 1 to 2 of 5" in text
    ok, text = await use(real, "Read", file_path="f", offset=99)
    assert "5 lines" in text
    ok, text = await use(real, "Read", file_path="empty/none")
    assert not ok
    assert "none" in text


async def test_write_says_created_or_wrote(real: MemoryHost) -> None:
    assert await use(real, "Write", file_path="d/f", content="é") == (
        True,
        "Created d/f (2 bytes).",
    )
    assert (await use(real, "Write", file_path="d/f", content="x"))[1] == "Wrote d/f (1 bytes)."
    ok, text = await use(real, "Write", file_path="/usr/forbidden", content="x")
    assert not ok
    assert text


async def test_edit(real: MemoryHost) -> None:
    await use(real, "Write", file_path="f", content="a b a")
    edit = {"file_path": "f", "old_string": "a", "new_string": "c"}
    assert not (await use(real, "Edit", **edit))[0]
    assert (await use(real, "Edit", **edit, replace_all=True))[0]
    assert (await use(real, "Bash", command="cat f"))[1] == "c b c"
    assert not (await use(real, "Edit", **edit))[0]
    assert not (await use(real, "Edit", file_path="none", old_string="a", new_string="b"))[0]


async def test_glob_and_grep(real: MemoryHost) -> None:
    await use(real, "Write", file_path="src/a.py", content="needle = 1\n")
    await use(real, "Write", file_path="src/b.txt", content="needle\nhay\nneedle\n")
    assert "src/a.py" in (await use(real, "Glob", pattern="**/*.py"))[1]
    assert (await use(real, "Glob", pattern="*.none"))[1] == "(no file matches)"
    text = (await use(real, "Grep", pattern="need.e"))[1]
    assert "a.py" in text
    assert "b.txt" in text
    text = (await use(real, "Grep", pattern="needle", glob="*.txt", output_mode="content"))[1]
    assert "a.py" not in text
    assert text.count("needle") == 2
    assert "2" in (await use(real, "Grep", pattern="needle", path="src", output_mode="count"))[1]
    assert (await use(real, "Grep", pattern="absent"))[1] == "(no match)"
    assert not (await use(real, "Grep", pattern="(", output_mode="content"))[0]


@pytest.mark.parametrize(
    ("tool", "given", "names"),
    [
        ("Bash", {}, "command"),
        ("Bash", {"command": ""}, "command"),
        ("Bash", {"command": "a\0b"}, "NUL"),
        ("Bash", {"command": "x", "timeout": -1}, "timeout"),
        ("Bash", {"command": ["ls"]}, "command"),
        ("Read", {"file_path": 5}, "file_path"),
        ("Read", {"file_path": "f", "limit": 0}, "limit"),
        ("Write", {"file_path": "f"}, "content"),
        ("Edit", {"file_path": "f", "old_string": "a"}, "new_string"),
        ("Glob", {"pattern": " "}, "pattern"),
        ("Grep", {"pattern": "x", "output_mode": "all"}, "output_mode"),
        ("AskUserQuestion", {"questions": []}, "questions"),
        ("AskUserQuestion", {"questions": [{"question": "?", "options": []}]}, "options"),
    ],
)
async def test_wrong_input_is_named_and_nothing_is_asked_or_run(
    host: MemoryHost, tool: str, given: dict[str, Any], names: str
) -> None:
    ok, text = await use(host, tool, **given)
    assert not ok
    assert names in text
    assert "nothing was run" in text
    assert [one[0] for one in host.events] == ["call", "result", "raw"]


def test_schemas_have_the_names_and_fields_that_models_know() -> None:
    fields = {
        name: (list(tool.spec.schema["properties"]), tool.spec.schema.get("required"))
        for name, tool in TOOLS.items()
    }
    assert fields == {
        "Bash": (["command", "description", "timeout", "run_in_background"], ["command"]),
        "Read": (["file_path", "offset", "limit"], ["file_path"]),
        "Write": (["file_path", "content"], ["file_path", "content"]),
        "Edit": (
            ["file_path", "old_string", "new_string", "replace_all"],
            ["file_path", "old_string", "new_string"],
        ),
        "Glob": (["pattern", "path"], ["pattern"]),
        "Grep": (
            [
                *("pattern", "path", "glob", "output_mode", "-i", "-A", "-B", "-C", "-n"),
                *("multiline", "type", "head_limit"),
            ],
            ["pattern"],
        ),
        "AskUserQuestion": (["questions"], ["questions"]),
    }
    text = json.dumps([tool.spec.schema for tool in TOOLS.values()])
    for word in ("$ref", "$defs", "anyOf", '"title"', "null"):
        assert word not in text


@pytest.mark.parametrize("text", ["x" * 300_000, "é" * 200_000, "\U0001f600" * 90_000])
def test_shortening_keeps_head_and_tail_within_the_limit(text: str) -> None:
    short = truncate_middle("HEAD" + text + "TAIL")
    assert len(short.encode()) <= RESULT_LIMIT
    assert short.startswith("HEAD")
    assert short.endswith("TAIL")
    assert "bytes left out here" in short
