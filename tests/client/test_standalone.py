"""The client alone: a Python that has httpx, httpx-sse and their needs, and nothing of Jupyter."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import loopat_jupyter
from tests.support.server import JupyterServer

PROGRAM = """
import sys
from loopat_jupyter import client as api

url, token = sys.argv[1:]
try:
    api.connect()
except api.ServerNotFound as error:
    print(error.code)
with api.Client(url, token) as client:
    loop = client.loops.create("standalone")
    for event in loop.send("count 3"):
        pass
    print(type(event).__name__)
    print(loop.ask("!echo alone").tool_calls[0].summary)
missing = {"tornado", "jupyter_server", "jupyter_core", "traitlets", "pydantic", "rich", "typer"}
for name in missing:
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} is here, so this proves nothing")
"""


def needed(*names: str) -> set[str]:
    """These distributions and all that they need."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            if "extra ==" not in line and not re.search(r"python_version\s*<", line):
                match = re.match(r"[\w.-]+", line)
                assert match, line
                waiting.append(match[0])
    return found


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder of packages as a fresh environment with the client alone would have it."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "loopat_jupyter").mkdir()
    source = Path(loopat_jupyter.__file__).parent
    for name in ("__init__.py", "client"):
        (packages / "loopat_jupyter" / name).symlink_to(source / name)
    for name in needed("httpx", "httpx-sse"):
        for file in importlib.metadata.files(name) or []:
            top, place = file.parts[0], Path(str(file.locate()))
            for _ in file.parts[1:]:
                place = place.parent
            if top not in ("..", "__pycache__") and not (packages / top).is_symlink():
                (packages / top).symlink_to(place)
    return packages


@pytest.mark.parametrize("environment", [{}, {"JPY_PARENT_PID": "41"}])
def test_it_works_where_nothing_of_the_server_is_installed(
    bare: Path, demo_server: JupyterServer, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, demo_server.url, demo_server.token],
        env={"PYTHONPATH": str(bare), "HOME": str(bare.parent), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["server_not_found", "Done", "echo alone"]


HEADLESS = """
import sys
from loopat_jupyter.client import ChoiceRequired, Client

with Client(*sys.argv[1:]) as client:
    client.loops.create("headless").ask("ask Drink? | Tea | Coffee")
"""


def test_an_unattended_script_fails_at_a_choice_and_does_not_hang(
    demo_server: JupyterServer,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HEADLESS, demo_server.url, demo_server.token],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ChoiceRequired: the turn waits for a person to decide: Drink? It" in last
    assert "on_choice" in last
