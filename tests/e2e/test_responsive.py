"""Nothing blocks the event loop: a server's kernels, terminals and pages share it with the loops.

A watcher inside the server looks at its loop fifty times a second while clients do what holds
loops up: long histories, big bodies, many sandboxes at once, floods of output. Machines stall too,
so what is asserted is not a short time but who held the loop: see ``tests/support/loop_watch.py``.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from tests.support.caller import Caller, Recorder
from tests.support.loop_watch import VARIABLE, Block, LoopWatch
from tests.support.mock_model import MockModel, Text, Tool, bash
from tests.support.server import JupyterServer

pytestmark = pytest.mark.slow(18)

OURS_AT_MOST = 0.25
"""Seconds that code of this package may hold the loop. A screen's frame is 0.017, a busy test
machine's hiccup well below this, and what blocks in earnest (a disk, a lock, a model) far above."""

ROOT = Path(__file__).parents[2]
WATCHER = "tests.support.loop_watch"


@pytest.fixture
async def watched(
    new_server: Callable[..., JupyterServer], tmp_path: Path, recorder: Recorder
) -> AsyncIterator[tuple[Caller, Path]]:
    """A server with its watcher, and the file of the blocks that were seen."""
    report = tmp_path / "blocks.jsonl"
    report.touch()
    server = new_server(
        config=f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n",
        env={VARIABLE: str(report)},
        options=[
            "--LoopatExtension.ping_interval=1",
            f"--ServerApp.jpserver_extensions={WATCHER}=True",
        ],
    ).start()
    assert f"{WATCHER} | extension was successfully loaded" in server.log
    async with Caller(server, recorder, headers=server.session) as caller:
        yield caller, report
        await recorder.settle()


def blocks(report: Path) -> list[Block]:
    return [Block(**json.loads(line)) for line in report.read_text().splitlines()]


async def test_nothing_of_this_package_blocks_the_event_loop(
    watched: tuple[Caller, Path], model: MockModel
) -> None:
    api, report = watched
    await asyncio.gather(
        _many_sandboxes(api, model),
        _long_history(api, model),
        _big_bodies(api),
        _listing(api),
        _documents(api),
    )
    await _interrupts_and_archives(api, model)
    await api.recorder.settle()
    seen = sorted(blocks(report), key=lambda block: -block.blamed)
    for block in seen[:10]:
        print(f"{block.lasted:.3f} s, {block.blamed:.3f} s of it in our code: {block.where}")
    ours = [block for block in seen if block.blamed > OURS_AT_MOST]
    assert not ours, "\n".join(f"{one.blamed:.3f} s: {one.where}" for one in ours)


async def _many_sandboxes(api: Caller, model: MockModel) -> None:
    async def one(number: int) -> None:
        loop_id = await api.loop(title=f"busy {number}")
        flood = bash("head -c 3000000 /dev/urandom | base64")
        note = Tool("Write", {"file_path": "notes.txt", "content": "line " * 50_000})
        script = model.script([flood], [note], [Text("done")])
        await api.turn(loop_id, script.message())

    await asyncio.gather(*(one(number) for number in range(6)))


async def _long_history(api: Caller, model: MockModel) -> None:
    loop_id = await api.loop(title="long")
    script = model.script([Text(f"{number} ") for number in range(3000)])
    await api.turn(loop_id, script.message())
    for _ in range(3):
        words = [e.data["text"] for e in await api.log(loop_id) if e.name == "assistant_delta"]
        assert "".join(words).split()[-1] == "2999"
    await api.history(loop_id)


async def _big_bodies(api: Caller) -> None:
    loop_id = await api.loop(title="big", metadata={str(n): "x" * 150 for n in range(100)})
    for _ in range(2):
        await api.turn(loop_id, "z" * ((1 << 20) - 1))
    assert (await api.post("/loops", content=b"[" * (7 << 20))).status_code == 400
    assert (await api.post("/loops", json={"metadata": {"a": ["x"] * 900_000}})).status_code == 400


async def _listing(api: Caller) -> None:
    for number in range(40):
        await api.loop(title=f"listed {number}")
    for _ in range(20):
        assert len((await api.get("/loops", params={"limit": 100})).json()["data"]) >= 40


async def _documents(api: Caller) -> None:
    async with httpx.AsyncClient() as http:
        for _ in range(3):
            answers = [await http.get(api.url(f"/{page}")) for page in ("openapi.json", "docs")]
            assert [answer.status_code for answer in answers] == [200, 200]


async def _interrupts_and_archives(api: Caller, model: MockModel) -> None:
    for number in range(3):
        loop_id = await api.loop(title=f"cut {number}")
        script = model.script([bash("sleep 60")])
        async with api.send(loop_id, script.message()) as stream:
            await stream.until("tool_call")
            await api.interrupt(loop_id)
            assert (await stream.rest())[-1].name == "interrupted"
        assert (await api.delete(f"/loops/{loop_id}")).status_code == 204


async def test_the_watcher_names_who_blocks_and_passes_by_who_does_not() -> None:
    """Sleeping and working in our code are seen, and what is done elsewhere is not ours."""
    found: list[Block] = []

    def sleeps_here() -> None:
        time.sleep(2 * OURS_AT_MOST)

    def works_here() -> None:
        until = time.thread_time() + 2 * OURS_AT_MOST
        while time.thread_time() < until:
            pass

    def waits_here() -> None:
        threading.Event().wait(2 * OURS_AT_MOST)

    async def after(ours: Path, block: Callable[[], None]) -> Block:
        found.clear()
        watch = LoopWatch(asyncio.get_running_loop(), ours, found.append)
        watch.start()
        await asyncio.sleep(0.1)
        block()
        await asyncio.sleep(0.1)
        watch.stop()
        return max(found, key=lambda block: block.lasted)

    for block in (sleeps_here, works_here, waits_here):
        seen = await after(ROOT, block)
        assert seen.blamed > OURS_AT_MOST, seen
        assert block.__name__ in seen.where, seen
    assert (await after(ROOT / "nowhere", sleeps_here)).blamed == 0
