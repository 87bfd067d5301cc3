"""``docs/rest.md``: every command runs as it stands, in order, and does what the text says."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loopat_jupyter.api.errors import STATUS
from loopat_jupyter.api.openapi import read_source
from tests.support.server import JupyterServer

GUIDE = Path(__file__).parents[2] / "docs" / "rest.md"
ADDRESS = "http://127.0.0.1:8888/"
MARK = "=== block"


def blocks(text: str) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def demo_server(new_server: Callable[..., JupyterServer]) -> JupyterServer:
    """A server with the built-in offline model."""
    return new_server(model=None, options=["--LoopatExtension.ping_interval=0.5"]).start()


def run(script: str, server: JupyterServer, directory: Path) -> list[str]:
    """What each block printed."""
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(directory),
        "LOOPAT_HOME": str(server.home),
    }
    done = subprocess.run(
        ["bash", "-e", "-u", "-c", script],
        cwd=directory, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.split(f"{MARK}\n")[1:]


def test_every_command_of_the_guide_runs_and_does_what_it_says(
    demo_server: JupyterServer, tmp_path: Path
) -> None:
    text = GUIDE.read_text()
    assert text.count(ADDRESS) == 1
    commands = blocks(text.replace(ADDRESS, demo_server.url))
    script = "".join(f"echo '{MARK}'\n{command}\n" for command in commands)
    outputs = run(script, demo_server, tmp_path)
    assert len(outputs) == len(commands)
    expected = [
        '"openapi":"3.1.0"',
        "",
        '"current_turn":null',
        '"has_more":false',
        "Linux",
        "event: done",
        '"content":"count 3"',
        "event: requires_choice",
        '202\n{"rules":[{',
        "202\n",
        "202\n",
        "the same turn\n",
        '"role":"assistant"',
        "## Turn 1",
        "the same file\n",
        '{"data":[]',
        "loop_not_found",
        "204\n",
    ]
    for command, output, words in zip(commands, outputs, expected, strict=True):
        assert words in output, f"{command}\n{output}"


def test_the_guide_names_only_codes_and_events_that_exist() -> None:
    text = GUIDE.read_text()
    events = re.findall(r"^event: (\w+)$", text, re.MULTILINE)
    assert set(events) <= set(read_source()["x-events"])
    codes = set(re.findall(r'"code": "(\w+)"', text))
    assert codes <= set(STATUS)
    assert {"json", "bash", "text"} >= set(re.findall(r"^```(\w+)$", text, re.MULTILINE))
