"""The example engine and the example tier of docs/extending.md, in a real server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.extending.distributions import EXAMPLES, install_example
from tests.support.caller import Caller, Recorder
from tests.support.server import JupyterServer

GUIDE = EXAMPLES.parent / "docs" / "extending.md"
ENGINE, TIER = "loopat-echo-engine", "loopat-nice-sandbox"


@pytest.fixture
def extended(tmp_path: Path, new_server: Callable[..., JupyterServer]) -> JupyterServer:
    """A server with both examples installed, not started; the echo engine serves in the tier."""
    site = tmp_path / "site"
    for name in (ENGINE, TIER):
        install_example(name, site)
    return new_server(
        env={"PYTHONPATH": str(site)},
        options=[
            "--LoopatExtension.engine=echo",
            "--LoopatExtension.sandbox=nice",
            "--LoopatExtension.ping_interval=1",
        ],
    )


async def test_a_turn_of_the_example_engine_runs_in_the_example_tier(
    extended: JupyterServer, recorder: Recorder
) -> None:
    server = extended.start()
    async with Caller(server, recorder, headers=server.session) as caller:
        loop = await caller.create()
        assert (loop["engine"], loop["sandbox"], loop["durable_choices"]) == ("echo", "nice", True)
        found = await caller.state(loop["id"])
        assert found["isolation"]["gaps"] == ["the agent can do whatever the server's user can"]
        async with caller.send(loop["id"], "one two three") as stream:
            asked = (await stream.until("requires_choice")).data
            assert asked["payload"]["command"] == "wc -w <<< 'one two three'"
            await caller.choose(loop["id"], asked["choice_id"], allow=True)
            events = await stream.rest()
        assert events[-1].name == "done"
        assert [e.data["ok"] for e in stream.events if e.name == "tool_result"] == [True]
        text = "".join(e.data["text"] for e in stream.events if e.name == "assistant_delta")
        assert text == "one two three \n3 words\n"
        await recorder.settle()


async def test_the_example_engine_goes_on_after_a_restart_and_takes_a_denial(
    extended: JupyterServer, recorder: Recorder
) -> None:
    server = extended.start()
    async with Caller(server, recorder, headers=server.session) as caller:
        loop_id = await caller.loop()
        async with caller.send(loop_id, "one two") as stream:
            asked = (await stream.until("requires_choice")).data
    server.restart()
    async with Caller(server, recorder, headers=server.session) as caller:
        async with caller.watch(loop_id, after_seq=0) as stream:
            await stream.until("requires_choice")
            await caller.choose(loop_id, asked["choice_id"], allow=False)
            while not (event := await stream.event()).terminal:
                pass
        assert event.name == "done"
        text = "".join(e.data["text"] for e in stream.events if e.name == "assistant_delta")
        assert text.startswith("one two \nNot counted: ")
        assert "User denied permission" in text
        recorder.loops[loop_id] = caller
        await recorder.settle()


async def test_the_example_tier_runs_at_a_low_priority_and_keeps_to_the_workdir(
    extended: JupyterServer, recorder: Recorder
) -> None:
    extended.options.remove("--LoopatExtension.engine=echo")
    extended.options.append("--LoopatExtension.engine=builtin")
    extended.configure_model({})
    server = extended.start()
    async with Caller(server, recorder, headers=server.session) as caller:
        loop_id = await caller.loop()
        await caller.turn(loop_id, "!nice > niceness; ls", mode="bypassPermissions")
        assert (server.workdir(loop_id) / "niceness").read_text() == "10\n"
        await recorder.settle()


@pytest.mark.parametrize("name", [ENGINE, TIER])
def test_the_guide_shows_the_example_as_it_is_tested(name: str) -> None:
    blocks = re.findall(r"^```(?:python|toml)\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.M)
    for file in (EXAMPLES / name).iterdir():
        if file.suffix in (".py", ".toml"):
            assert file.read_text() in blocks, f"docs/extending.md does not hold {file.name}"


@pytest.mark.parametrize("name", [ENGINE, TIER])
def test_the_examples_are_typed(name: str, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is in the extra dev")
    (module,) = (EXAMPLES / name).glob("*.py")
    options = ["--strict", "--no-error-summary", "--cache-dir=cache"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(module)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
