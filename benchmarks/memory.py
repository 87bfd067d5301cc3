"""What the server holds in memory: idle, for each idle loop, for each open idle stream."""

from __future__ import annotations

import asyncio

from .bench import Run, stage
from .measures import Measure
from .processes import JupyterServer, descendants_pss
from .turns import warm_up
from .wire import Tap

MIB = 1 << 20


async def _open_streams(server: JupyterServer, loops: list[str]) -> list[Tap]:
    paths = [f"/loops/{loop_id}/events" for loop_id in loops]
    return [await Tap.open(server.target, path, Tap) for path in paths]


async def memory(run: Run) -> list[Measure]:
    """RSS of the server process alone, read from the kernel."""
    count, open_count = run.pick(1000, 100), run.pick(200, 50)
    async with stage(settled=False) as here:
        server = here.server
        (first,) = await server.make_loops(1)
        started = server.rss
        await warm_up(server.target, [first])
        for tap in await _open_streams(server, [first] * 20):  # code and buffers of a first time
            tap.close()
        served = server.rss
        loops = await server.make_loops(count)
        with_loops = server.rss
        taps = await _open_streams(server, loops[:open_count])
        with_streams = server.rss
        for tap in taps:
            tap.close()
    note = f"{open_count} streams, each of another loop"
    return [
        Measure("memory", "server, idle", started / MIB, "MB", note="before its first turn"),
        Measure("memory", "server, after a turn", served / MIB, "MB", note="model client loaded"),
        Measure("memory", "idle loop", (with_loops - served) / count / 1024, "KB", count),
        Measure(
            "memory",
            "open idle stream",
            (with_streams - with_loops) / open_count / 1024,
            "KB",
            open_count,
            budget="memory.stream",
            note=note,
        ),
    ]


async def living(run: Run) -> list[Measure]:
    """Loops whose sandbox lives: the server's part, and the processes in the sandboxes."""
    count = run.pick(50, 5)
    async with stage() as here:
        server = here.server
        loops = await server.make_loops(count + 1)
        await warm_up(server.target, loops[:1])
        before = server.rss
        others = await asyncio.to_thread(descendants_pss, server.pid)
        await warm_up(server.target, loops[1:])
        server_each = (server.rss - before) / count / 1024
        inside = await asyncio.to_thread(descendants_pss, server.pid) - others
    return [
        Measure("living", "server, each living sandbox", server_each, "KB", count),
        Measure("living", "sandbox's own processes", inside / count / 1024, "KB", count,
                note="proportional set size"),
    ]  # fmt: skip
