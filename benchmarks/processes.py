"""The processes of a benchmark: the Jupyter server, the mock model, the baseline relay.

Each is a real process with everything it owns in one temporary directory, and is ended by its
owner. CPU time and memory are read from the kernel.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from .wire import Connection, Target

READY = re.compile(rb"is running at:")
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
ROOT = Path(__file__).resolve().parent.parent


def environment(**more: str) -> dict[str, str]:
    """The environment of a child: ours without what would reach a server of the user."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "JPY", "LOOPAT"))}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """Processor time the process has used so far, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes of memory the process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descendants_pss(pid: int) -> int:
    """Bytes of memory of all processes below ``pid``, shared pages counted in proportion."""
    total = 0
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        for below in child.read_text().split():
            rows = Path(f"/proc/{below}/smaps_rollup").read_text().splitlines()
            pss = next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
            total += pss * 1024 + descendants_pss(int(below))
    return total


@dataclass(frozen=True, slots=True)
class Child:
    """A helper process that listens on a port."""

    port: int
    pid: int


@asynccontextmanager
async def helper(module: str, *arguments: str) -> AsyncIterator[Child]:
    """``python -m benchmarks.<module>``, until the context is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"benchmarks.{module}", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=environment(),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = int(await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT))
        yield Child(port, process.pid)
    finally:
        process.stdin.close()
        await process.wait()


class JupyterServer:
    """One ``jupyter server`` on a home of its own; can be killed and started again."""

    def __init__(self, directory: Path, model_port: int, options: Sequence[str] = ()) -> None:
        self.directory = directory
        self.home = directory / "loopat"
        self.home.mkdir(mode=0o700, parents=True)
        (directory / "user").mkdir()
        self.root = directory / "root"
        self.root.mkdir()
        self._options = options
        self._log = directory / "server.log"
        self._process: asyncio.subprocess.Process | None = None
        self._secret = secrets.token_hex(16)
        self._port = free_port()
        self._bearer = ""
        provider = {
            "api": "openai",
            "baseUrl": f"http://127.0.0.1:{model_port}/v1",
            "models": [{"id": "mock-1"}],
        }
        config = {"default": "bench/mock-1", "providers": {"bench": provider}}
        (self.home / "config.json").write_text(json.dumps(config))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def rss(self) -> int:
        return resident(self.pid)

    @property
    def target(self) -> Target:
        """The API, as a program with an API token calls it."""
        return self._target(f"Bearer {self._bearer}")

    def _target(self, credential: str) -> Target:
        return Target(self._port, "/loopat/api/v1", (("Authorization", credential),))

    async def start(self) -> JupyterServer:
        await self.spawn()
        await self.ready()
        if not self._bearer:
            async with Connection(self._target(f"token {self._secret}")) as connection:
                created = await connection.ask("POST", "/me/tokens", {"label": "bench"})
            self._bearer = created.json()["token"]
        return self

    async def spawn(self) -> None:
        own = self.directory
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser",
                "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self._port}",
                "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}",
                f"--IdentityProvider.token={self._secret}", "--LoopatExtension.token_session=True",
                *self._options,
                env=environment(
                    HOME=str(own / "user"), LOOPAT_HOME=str(self.home),
                    JUPYTER_CONFIG_DIR=str(own / "config"), JUPYTER_DATA_DIR=str(own / "data"),
                    JUPYTER_RUNTIME_DIR=str(own / "runtime"),
                    PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                ),
                cwd=self.root, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def ready(self) -> None:
        """Wait until it answers; an external process gives no other sign."""
        give_up = time.monotonic() + START_TIMEOUT
        while time.monotonic() < give_up and self._process and self._process.returncode is None:
            try:
                async with Connection(self._target("")) as connection:
                    await connection.ask("GET", "/openapi.json")
            except OSError:
                await asyncio.sleep(0.005)
            else:
                return
        raise RuntimeError(f"the server did not start:\n{self._log.read_text()[-3000:]}")

    async def kill(self) -> None:
        """``kill -9``."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT)

    async def make_loops(self, count: int) -> list[str]:
        """Create loops, a few at a time; their ids."""
        made: list[str] = []

        async def some(number: int) -> None:
            async with Connection(self.target) as connection:
                for index in range(number):
                    draft = {"title": f"bench {index}"}
                    made.append((await connection.ask("POST", "/loops", draft)).json()["id"])

        workers = min(8, count)
        await asyncio.gather(*(some(len(range(i, count, workers))) for i in range(workers)))
        return made
