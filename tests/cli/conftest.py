"""A real server with the demo model, and the command run against it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.support.server import JupyterServer, base_environment

COMMAND = [sys.executable, "-c", "from loopat_jupyter.cli import main; main()"]
TIMEOUT = 60


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(scope="package")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path_factory.mktemp("cli")) as running:
        yield running


@pytest.fixture
def environment(demo_server: JupyterServer, tmp_path: Path) -> dict[str, str]:
    """Nothing of the machine's own servers, homes and settings."""
    return {
        **base_environment(),
        "HOME": str(tmp_path),
        "TERM": "xterm-256color",
        "COLUMNS": "100",
        "PYTHONUTF8": "1",
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "LOOPAT_HOME": str(demo_server.home),
        "LOOPAT_URL": demo_server.url,
        "LOOPAT_TOKEN": demo_server.token,
    }


Loopat = Callable[..., Outcome]


@pytest.fixture
def loopat(environment: dict[str, str], tmp_path: Path) -> Loopat:
    """Run ``loopat`` to its end, without a terminal."""

    def run(
        *arguments: str | bytes, stdin: bytes = b"", env: Mapping[str, str | None] | None = None
    ) -> Outcome:
        merged = {k: v for k, v in {**environment, **(env or {})}.items() if v is not None}
        done = subprocess.run(
            [*COMMAND, *arguments], input=stdin, env=merged, cwd=tmp_path,
            capture_output=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


Terminal = Callable[..., pexpect.spawn]


@pytest.fixture
def terminal(environment: dict[str, str], tmp_path: Path) -> Iterator[Terminal]:
    """Start ``loopat`` at a terminal of its own."""
    started: list[pexpect.spawn] = []

    def start(*arguments: str, env: Mapping[str, str | None] | None = None) -> pexpect.spawn:
        merged = {k: v for k, v in {**environment, **(env or {})}.items() if v is not None}
        child = pexpect.spawn(
            COMMAND[0], [*COMMAND[1:], *arguments], env=merged, cwd=str(tmp_path),
            encoding="utf-8", timeout=TIMEOUT, dimensions=(40, 100),
        )  # fmt: skip
        started.append(child)
        return child

    yield start
    for child in started:
        child.close(force=True)


@pytest.fixture
def loop_id(loopat: Loopat) -> str:
    return loopat("loops", "new", "a test").out.strip()


def ended(child: pexpect.spawn) -> int:
    """The exit code of a command that is about to end."""
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus is not None, child.signalstatus
    return int(child.exitstatus)
