"""``kill -9`` with turns queued, running and waiting, and a start: until all is right again.

The clock runs from the start of the new process to the moment at which the store holds no turn
that is not in its right state; that is looked up in the database, read-only, so that looking does
not take the server's time. Then the API is asked for every loop, off the clock.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .bench import Run, Stage, stage
from .measures import Measure
from .model import Order
from .processes import JupyterServer, cpu_seconds
from .turns import begin_turn
from .wire import Connection

PATIENCE = 120.0
LOOK_INTERVAL = 0.01
SLOW = Order(deltas=100_000, rate=1.0)
ASK = Order(tool="AskUserQuestion")


@dataclass(frozen=True, slots=True)
class Scene:
    """Loops by what they are doing at the kill: ``running`` ones, of which the first ``queued``
    have one more message behind, and ``waiting`` ones; all others are idle."""

    loops: list[str]
    running: int
    queued: int
    waiting: int

    @property
    def waiting_loops(self) -> list[str]:
        return self.loops[self.running : self.running + self.waiting]


async def _set_scene(here: Stage, run: Run) -> Scene:
    server = here.server
    running, queued, waiting = run.pick(50, 4), run.pick(25, 2), run.pick(100, 6)
    loops = await server.make_loops(run.pick(1000, 40))
    scene = Scene(loops, running, queued, waiting)
    todo = [(loop_id, SLOW) for loop_id in loops[:running]]
    todo += [(loop_id, ASK) for loop_id in scene.waiting_loops]
    todo += [(loop_id, Order()) for loop_id in loops[:queued]]
    for loop_id, order in todo:
        await begin_turn(server.target, loop_id, order)
    await _until(server.home, {"running": running, "queued": queued, "waiting": waiting})
    return scene


def _states(home: Path) -> Counter[str]:
    address = f"{(home / 'loopat.db').as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=10)) as connection:
        return Counter(dict(connection.execute("SELECT state, COUNT(*) FROM turns GROUP BY state")))


async def _until(home: Path, wanted: dict[str, int]) -> None:
    """Wait for the turns to be in these states; another process's database has no event."""
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(_states, home) != wanted:
            await asyncio.sleep(LOOK_INTERVAL)


async def _start_empty() -> tuple[float, float]:
    """The baseline: a Jupyter server with an empty home, to its first answer. Seconds, and
    seconds of its processor time."""
    async with stage(settled=False) as here:
        await here.server.kill()
        begin = time.monotonic()
        await here.server.start()
        return time.monotonic() - begin, cpu_seconds(here.server.pid)


async def _verify(server: JupyterServer, scene: Scene) -> None:
    """Ask the API for every loop: busy are those that wait, and only those."""
    waiting = set(scene.waiting_loops)
    async with Connection(server.target) as connection:
        for loop_id in scene.loops:
            loop = (await connection.ask("GET", f"/loops/{loop_id}")).json()
            pending = (loop["current_turn"] or {}).get("pending_choice_id")
            if loop["busy"] != (loop_id in waiting) or bool(pending) != (loop_id in waiting):
                raise RuntimeError(f"a loop is in a wrong state after the restart: {loop}")


async def restart(run: Run) -> list[Measure]:
    """From ``exec`` of the new server to all turns in their right state."""
    empty, empty_used = await _start_empty()
    async with stage(settled=False) as here:
        scene = await _set_scene(here, run)
        await here.server.kill()
        right = {"error": scene.running, "waiting": scene.waiting, "done": scene.queued}
        begin = time.monotonic()
        await here.server.spawn()
        await here.server.ready()
        ready = time.monotonic() - begin
        await _until(here.server.home, right)
        whole = time.monotonic() - begin
        used = cpu_seconds(here.server.pid)
        await _verify(here.server, scene)
    note = (
        f"{len(scene.loops)} loops: {scene.running} running, {scene.queued} queued, "
        f"{scene.waiting} waiting; baseline: an empty home"
    )
    return [
        Measure("restart", "first answer", ready, "s", baseline=empty, note=note),
        Measure(
            "restart", "all turns right", whole, "s", baseline=empty, budget="restart", note=note
        ),
        Measure("restart", "added to an empty server", whole - empty, "s"),
        Measure("restart", "server CPU until then", used, "s", baseline=empty_used),
    ]
