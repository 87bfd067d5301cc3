"""From the model's writing of a delta to its arrival at every watcher.

The turns of all loops run at once; their deltas are spread evenly over time. The first ones are
written when every turn has begun, so that the beginning of turns is not measured here. The same
model, rate and number of watchers then go through the bare relay (:mod:`.relay`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from .bench import Run, Stage, stage
from .measures import Measure, quantile, quantiles
from .model import Order
from .processes import Child, cpu_seconds, helper
from .turns import begin_turn, warm_up
from .wire import Connection, Tap, Target

RATE = 20.0
"""Deltas a second in each loop, what a fast hosted model sends."""
LEAD = 1.0
LEAD_PER_LOOP = 0.03
"""Seconds before the first delta, for the turns to begin."""
PATIENCE = 90.0
JUDGED = (100, 3)
"""Loops and watchers of the budget."""


@dataclass(frozen=True, slots=True)
class Load:
    loops: int
    watchers: int
    seconds: float
    rate: float = RATE

    @property
    def deltas(self) -> int:
        return max(1, round(self.seconds * self.rate))

    def orders(self) -> list[Order]:
        lead = LEAD + LEAD_PER_LOOP * self.loops
        start = time.monotonic_ns() + int(lead * 1e9)
        step = 1 / self.rate / self.loops
        return [Order(self.deltas, self.rate, start, i * step) for i in range(self.loops)]

    def __str__(self) -> str:
        return f"{self.loops} x {self.watchers} at {self.rate:g}/s for {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds of every delta at every watcher; processor seconds of each process meanwhile,
    in ``wall`` seconds. Of ``missing`` deltas all that is known is that they took longer."""

    values: list[float]
    cpu: Mapping[str, float]
    wall: float
    missing: int

    def shares(self) -> str:
        return ", ".join(f"{name} {used / self.wall:.0%}" for name, used in self.cpu.items())


async def _listen(
    load: Load,
    paths: list[str],
    target: Target,
    begin: Callable[[int, Order], Awaitable[None]],
    pids: Mapping[str, int],
) -> Delays:
    taps: list[Tap] = []
    try:
        for path in paths:
            for _ in range(load.watchers):
                taps.append(await Tap.open(target, path, lambda: Tap(load.deltas)))
        orders = load.orders()
        await asyncio.gather(*(begin(i, order) for i, order in enumerate(orders)))
        await asyncio.sleep(max(0.0, orders[0].start / 1e9 - time.monotonic()))
        wall, before = time.monotonic(), {name: cpu_seconds(pid) for name, pid in pids.items()}
        await _arrive(taps, load.seconds + PATIENCE)
        wall = time.monotonic() - wall
        cpu = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    finally:
        for tap in taps:
            tap.close()
    delays = [delay / 1e6 for tap in taps for delay in tap.delays]
    missing = len(taps) * load.deltas - len(delays)
    return Delays(delays + [wall * 1000] * missing, cpu, wall, missing)


async def _arrive(taps: list[Tap], patience: float) -> None:
    """Wait until every delta is here, or patience ends. Raises when a stream was cut."""
    arrived, _ = await asyncio.wait([tap.complete for tap in taps], timeout=patience)
    for one in arrived:
        one.result()


async def through_loopat(stage: Stage, load: Load) -> Delays:
    server = stage.server
    loops = await server.make_loops(load.loops)
    await warm_up(server.target, loops)

    async def begin(index: int, order: Order) -> None:
        await begin_turn(server.target, loops[index], order)

    pids = {"server": server.pid, "model": stage.model.pid, "client": os.getpid()}
    paths = [f"/loops/{loop_id}/events" for loop_id in loops]
    return await _listen(load, paths, server.target, begin, pids)


async def through_relay(relay: Child, model: Child, load: Load) -> Delays:
    target = Target(relay.port)

    async def begin(index: int, order: Order) -> None:
        async with Connection(target) as connection:
            await connection.ask("POST", f"/start/{index}", {"content": str(order)})

    pids = {"relay": relay.pid, "model": model.pid, "client": os.getpid()}
    paths = [f"/events/{index}" for index in range(load.loops)]
    return await _listen(load, paths, target, begin, pids)


def _measures(benchmark: str, load: Load, ours: Delays, bare: Delays) -> list[Measure]:
    """The raw delays beside the relay's; what we add; the processor time of each delta."""
    size = f"{load.loops} x {load.watchers}"
    judged = (load.loops, load.watchers) == JUDGED
    rows = quantiles(benchmark, f"{size} delay", ours.values, note=str(load), baseline=bare.values)
    added = [
        Measure(
            benchmark,
            f"{size} added p{share}",
            max(0.0, quantile(ours.values, share / 100) - quantile(bare.values, share / 100)),
            "ms",
            len(ours.values),
            budget=f"latency.p{share}" if judged else None,
            note="delay less the relay's",
        )
        for share in (50, 99)
    ]
    deltas = load.loops * load.deltas
    each = Measure(
        benchmark,
        f"{size} server CPU per delta",
        ours.cpu["server"] / deltas * 1000,
        "ms",
        deltas,
        baseline=bare.cpu["relay"] / deltas * 1000,
        note=f"{ours.shares()}; baseline {bare.shares()}",
    )
    return [*rows, *added, each]


async def _compare(benchmark: str, loads: list[Load]) -> list[Measure]:
    measures: list[Measure] = []
    async with stage() as here, helper("relay", str(here.model.port)) as relay:
        for load in loads:
            bare = await through_relay(relay, here.model, load)
            ours = await through_loopat(here, load)
            measures += _measures(benchmark, load, ours, bare)
    return measures


async def latency(run: Run) -> list[Measure]:
    """Model to watcher, 3 watchers for each loop."""
    sizes = [1] if run.quick else [1, 10, 100]
    seconds = run.pick(10, 2)
    return await _compare("latency", [Load(loops, 3, seconds) for loops in sizes])


async def fanout(run: Run) -> list[Measure]:
    """Model to watcher, one loop with many watchers."""
    return await _compare("fanout", [Load(1, run.pick(100, 20), run.pick(10, 2))])
