"""The sandbox: how fast one is there, how fast a command runs in it, and what it leaves behind."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from loopat_jupyter.loops.ports.sandbox import Sandbox, SandboxSpec
from loopat_jupyter.sandboxes.bubblewrap.tier import BubblewrapTier
from loopat_jupyter.sandboxes.registry import select_tier
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

from .bench import Run, stage
from .measures import Measure, quantiles
from .model import Order
from .wire import Connection

COMMAND_TIMEOUT = 30.0
TOOL = str(Order(tool="Bash"))


class SandboxBench:
    """Makes sandboxes without a server, and counts what is left of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        tier = select_tier("bubblewrap", SandboxSettings(run_dir=directory / "run"))
        assert isinstance(tier, BubblewrapTier)
        self.tier = tier
        self._made = 0

    def sandbox(self) -> Sandbox:
        self._made += 1
        name = f"loop_{self._made}"
        paths = [self.directory / "loops" / name / part for part in ("workdir", "home")]
        for path in paths:
            path.mkdir(parents=True)
        return self.tier.create(SandboxSpec(name, paths[0], paths[1]))

    def processes(self) -> int:
        """Processes with this bench's directory among their mounts: those in its sandboxes."""
        mark = str(self.directory).encode()
        return sum(mark in table for table in _mount_tables())

    def left(self) -> int:
        """Bytes of the files in the loops' and the run directory."""
        files = (path for path in self.directory.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files)


def _mount_tables() -> list[bytes]:
    tables = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            tables.append((process / "mountinfo").read_bytes())
        except OSError:
            continue  # it ended meanwhile
    return tables


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@asynccontextmanager
async def sandbox_bench() -> AsyncIterator[SandboxBench]:
    with tempfile.TemporaryDirectory(prefix="loopat-bench-") as directory:
        Path(directory).chmod(0o755)  # a root server's sandboxes run as another user
        here = SandboxBench(Path(directory))
        try:
            yield here
        finally:
            await asyncio.to_thread(here.tier.close)


async def _timed_start(sandbox: Sandbox) -> float:
    begin = time.monotonic()
    await sandbox.start()
    return (time.monotonic() - begin) * 1000


async def _timed_true(sandbox: Sandbox) -> float:
    begin = time.monotonic()
    result = await sandbox.run("true", timeout=COMMAND_TIMEOUT)
    if result.exit_code != 0:
        raise RuntimeError(f"true failed in the sandbox: {result}")
    return (time.monotonic() - begin) * 1000


async def _timed_stop(sandbox: Sandbox) -> float:
    begin = time.monotonic()
    await sandbox.stop()
    return (time.monotonic() - begin) * 1000


async def _bare_true(count: int) -> list[float]:
    """The baseline of a command: ``bash -c true`` started by asyncio, no sandbox."""
    times = []
    for _ in range(count):
        begin = time.monotonic()
        process = await asyncio.create_subprocess_exec("bash", "-c", "true")
        await process.wait()
        times.append((time.monotonic() - begin) * 1000)
    return times


async def sandbox(run: Run) -> list[Measure]:
    """Start, first command, further commands and stop, without the server in between."""
    ready, first, warm, stopped = [], [], [], []
    async with sandbox_bench() as here:
        await _timed_start(opening := here.sandbox())  # also starts the tier's own process
        await opening.stop()
        for _ in range(run.pick(100, 10)):
            one = here.sandbox()
            ready.append(await _timed_start(one))
            first.append(await _timed_true(one))
            warm += [await _timed_true(one) for _ in range(5)]
            stopped.append(await _timed_stop(one))
        bare = await _bare_true(run.pick(100, 10))
    budgets = {50: "sandbox.ready.p50"}
    return [
        *quantiles("sandbox", "ready", ready, note="bubblewrap", budgets=budgets),
        *quantiles("sandbox", "first true", first),
        *quantiles("sandbox", "warm true", warm, baseline=bare, note="baseline: bash, no sandbox"),
        *quantiles("sandbox", "stop", stopped),
    ]


async def tools(run: Run) -> list[Measure]:
    """A Bash call of an agent, through the API: what a turn's stream shows."""
    cold: list[list[int]] = []
    warm: list[list[int]] = []
    async with stage() as here:
        loops = await here.server.make_loops(run.pick(50, 5))
        names = [b"event: started", b"event: tool_call", b"event: tool_result"]
        async with Connection(here.server.target) as connection:
            for marks in (cold, warm):
                for loop_id in loops:
                    path, body = f"/loops/{loop_id}/messages", {"content": TOOL}
                    marks.append(await connection.marks("POST", path, body, names))

    def between(marks: list[list[int]], begin: int, end: int) -> list[float]:
        return [(mark[end] - mark[begin]) / 1e6 for mark in marks]

    note = "sandbox start, model call, true"
    return [
        *quantiles("tools", "cold: started to tool_result", between(cold, 2, 4), note=note),
        *quantiles("tools", "warm: started to tool_result", between(warm, 2, 4)),
        *quantiles("tools", "warm: tool_call to tool_result", between(warm, 3, 4)),
    ]


async def cycles(run: Run) -> list[Measure]:
    """Create, run, kill, again and again; nothing may be left of it."""
    count, at_once = run.pick(1000, 200), 4
    async with sandbox_bench() as here:
        await _cycle(here, 1)
        descriptors = open_descriptors()
        begin = time.monotonic()
        await asyncio.gather(*(_cycle(here, count // at_once) for _ in range(at_once)))
        wall = time.monotonic() - begin
        left = await asyncio.to_thread(lambda: (here.processes(), here.left()))
        descriptors = open_descriptors() - descriptors
    note = f"{count} cycles, {at_once} at once"
    return [
        Measure("cycles", "cycle", wall / count * 1000, "ms", count, note=note),
        Measure("cycles", "processes left", left[0], "", count, budget="cycles.processes"),
        Measure("cycles", "bytes left", left[1], "B", count, budget="cycles.bytes"),
        Measure("cycles", "descriptors left", descriptors, "", count),
    ]


async def _cycle(here: SandboxBench, times: int) -> None:
    for _ in range(times):
        one = here.sandbox()
        await one.start()
        await _timed_true(one)
        await one.run("sleep 1000", timeout=COMMAND_TIMEOUT, background=True)
        await one.stop()
