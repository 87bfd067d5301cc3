"""Turns as load: send messages, and listen to what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from .model import Order
from .processes import JupyterServer
from .wire import Connection, Target


async def run_turn(target: Target, loop_id: str, order: Order) -> None:
    """Send one message and read its turn to the end."""
    async with Connection(target) as connection:
        answer = await connection.ask("POST", f"/loops/{loop_id}/messages", {"content": str(order)})
    if b"event: done" not in answer.body:
        raise RuntimeError(f"a turn of the benchmark failed: {answer.body[-600:]!r}")


async def warm_up(target: Target, loops: Iterable[str], at_once: int = 4) -> None:
    """One short turn in each loop: sandboxes started, connections open, code loaded."""
    waiting = list(loops)

    async def work() -> None:
        while waiting:
            await run_turn(target, waiting.pop(), Order())

    await asyncio.gather(*(work() for _ in range(at_once)))


async def settle(server: JupyterServer) -> None:
    """Let a server that has just started run a turn."""
    await warm_up(server.target, await server.make_loops(1))


async def begin_turn(target: Target, loop_id: str, order: Order) -> None:
    """Send one message and leave when it is acknowledged; the turn goes on."""
    async with Connection(target) as connection:
        await connection.open("POST", f"/loops/{loop_id}/messages", {"content": str(order)})
