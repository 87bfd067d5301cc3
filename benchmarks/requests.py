"""Single requests: send a message, create a loop, read a page of the list, resume a stream."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from loopat_jupyter.loops.models import LoopRecord, new_loop_id, now
from loopat_jupyter.store import Store

from .bench import Run, stage
from .measures import Measure, quantile, quantiles
from .model import Order
from .processes import JupyterServer, cpu_seconds
from .turns import run_turn, settle, warm_up
from .wire import Connection, Tap

LIST_LOOPS = 10_000
RESUME_EVENTS = 10_000


def _milliseconds(begin: int, end: int) -> float:
    return (end - begin) / 1e6


class Processor:
    """Processor time of the server for each request of a series."""

    def __init__(self, server: JupyterServer) -> None:
        self._server = server
        self._before = cpu_seconds(server.pid)

    def measure(self, benchmark: str, name: str, requests: int) -> Measure:
        used = cpu_seconds(self._server.pid) - self._before
        return Measure(benchmark, f"server CPU of a {name}", used / requests * 1000, "ms", requests)


def durable_commits(directory: Path, count: int) -> list[float]:
    """The baseline of an acknowledgement: one row, committed and synced, on the same disk.

    Into a log that has been used before, like a server's: one that still grows is slower.
    """
    times = []
    with closing(sqlite3.connect(directory / "baseline.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, text)")
        connection.execute("INSERT INTO rows (text) VALUES (zeroblob(8000000))")
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        for _ in range(count):
            begin = time.monotonic_ns()
            connection.execute("INSERT INTO rows (text) VALUES (?)", ("x" * 200,))
            times.append(_milliseconds(begin, time.monotonic_ns()))
    return times


async def post(run: Run) -> list[Measure]:
    """A message: to the durable acknowledgement (the answer's head), to its first event."""
    count, at_once = run.pick(400, 40), 16
    async with stage() as here:
        loops = await here.server.make_loops(run.pick(40, 8))
        await warm_up(here.server.target, loops)
        bare = await asyncio.to_thread(durable_commits, here.server.directory, count)
        marks: list[list[int]] = []

        async def send(share: list[str], number: int) -> None:
            async with Connection(here.server.target) as connection:
                for index in range(number):
                    path = f"/loops/{share[index % len(share)]}/messages"
                    body = {"content": str(Order())}
                    names = [b"event: started", b"event: assistant_delta"]
                    marks.append(await connection.marks("POST", path, body, names))

        used = Processor(here.server)
        await send(loops, count)
        turn = used.measure("post", "short turn", count)
        alone, marks = marks, []
        shares = [loops[i::at_once] for i in range(min(at_once, len(loops)))]
        await asyncio.gather(*(send(share, count // len(shares)) for share in shares))
    return [
        *_post_measures("POST", alone, "one after the other", bare, judged=True),
        *_post_measures(f"{len(shares)} POSTs at once", marks, "each in a loop of its own"),
        turn,
    ]


def _post_measures(
    name: str,
    marks: list[list[int]],
    note: str,
    bare: list[float] | None = None,
    *,
    judged: bool = False,
) -> list[Measure]:
    def since_sent(column: int) -> list[float]:
        return [_milliseconds(mark[0], mark[column]) for mark in marks]

    budgets = {99: "post.ack.p99"} if judged else None
    told = f"{note}; baseline: a synced SQLite commit" if bare else note
    ack = quantiles(
        "post", f"{name} to ack", since_sent(1), note=told, baseline=bare, budgets=budgets
    )
    started = quantiles("post", f"{name} to started", since_sent(2), note=note)
    return [*ack, *started, *quantiles("post", f"{name} to first delta", since_sent(3), note=note)]


async def create(run: Run) -> list[Measure]:
    """Create a loop."""
    times = []
    async with stage() as here, Connection(here.server.target) as connection:
        used = Processor(here.server)
        for index in range(run.pick(300, 30)):
            answer = await connection.ask("POST", "/loops", {"title": f"bench {index}"})
            times.append(_milliseconds(answer.sent, answer.done))
        creation = used.measure("create", "creation", len(times))
    return [*quantiles("create", "create loop", times, note="one after the other"), creation]


async def _fill(server: JupyterServer, count: int) -> None:
    """Write loops into the home of a stopped server, with the store's own interface."""
    store = Store(server.home / "loopat.db")
    store.start(lambda _events: None)
    owner = "owner"
    drafts = [
        LoopRecord(
            new_loop_id(), owner, f"loop {i}", now(), {"number": str(i)}, (), "default", None
        )
        for i in range(count)
    ]
    await asyncio.gather(*(store.loops.create(loop) for loop in drafts))
    await asyncio.to_thread(store.close)


async def list_pages(run: Run) -> list[Measure]:
    """Pages of the list of 10,000 loops, walked from the newest to the oldest."""
    count = run.pick(LIST_LOOPS, 1000)
    async with stage(settled=False) as here:
        await here.server.stop()
        await _fill(here.server, count)
        await here.server.start()
        await settle(here.server)
        measures = []
        for limit, budget in ((20, None), (100, {95: "list.p95"})):
            used = Processor(here.server)
            times = await _walk(here.server, limit, run.pick(100, 10))
            note = f"{count} loops, limit={limit}"
            measures += quantiles(
                "list", f"page of {limit}", times, (50, 95), note=note, budgets=budget
            )
            measures.append(used.measure("list", f"page of {limit}", len(times)))
    return measures


async def _walk(server: JupyterServer, limit: int, pages: int) -> list[float]:
    times = []
    async with Connection(server.target) as connection:
        after = ""
        for _ in range(pages):
            answer = await connection.ask("GET", f"/loops?limit={limit}{after}")
            times.append(_milliseconds(answer.sent, answer.done))
            page = answer.json()
            if len(page["data"]) != limit:
                raise RuntimeError(f"a page of {len(page['data'])} loops instead of {limit}")
            after = f"&after={page['last_id']}" if page["has_more"] else ""
    return times


async def resume(run: Run) -> list[Measure]:
    """A turn of 10,000 deltas as fast as it goes, then its replay from the first event."""
    count = run.pick(RESUME_EVENTS, 1000)
    async with stage() as here:
        server = here.server
        (loop_id,) = await server.make_loops(1)
        await warm_up(server.target, [loop_id])
        used, begin = cpu_seconds(server.pid), time.monotonic()
        await run_turn(server.target, loop_id, Order(deltas=count))
        wall, used = time.monotonic() - begin, cpu_seconds(server.pid) - used
        times, size = await _replays(server, loop_id, run.pick(20, 5))
    note = f"{count} deltas, {size / 1e6:.1f} MB"
    return [
        Measure("resume", "throughput of one turn", count / wall, "deltas/s", note="1 reader"),
        Measure(
            "resume", "server CPU per delta", used / count * 1000, "ms", count, note="1 reader"
        ),
        Measure("resume", "replay p50", quantile(times, 0.5), "ms", len(times), note=note),
        Measure(
            "resume", "replay, slowest", max(times), "ms", len(times), budget="resume", note=note
        ),
    ]


async def _replays(server: JupyterServer, loop_id: str, times: int) -> tuple[list[float], int]:
    """Milliseconds from asking for everything to the last event of the turn, and its bytes."""
    taken = []
    async with Connection(server.target) as connection:
        path = f"/loops/{loop_id}/messages?limit=100"
        turns = len((await connection.ask("GET", path)).json()["data"]) // 2
    for _ in range(times):
        begin = time.monotonic_ns()
        tap = await Tap.open(
            server.target,
            f"/loops/{loop_id}/events?after_seq=0",
            lambda: Tap(until=b"event: done", times=turns),
        )
        taken.append(_milliseconds(begin, await tap.complete))
        tap.close()
    return taken, tap.size
