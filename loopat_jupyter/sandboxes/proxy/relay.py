"""Copies bytes between two streams in both directions, with one buffer for each in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

READ_SIZE = 64 * 1024
IDLE_TIMEOUT = 600.0
"""Seconds after which a tunnel ends in which neither side has sent anything."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class _Flow:
    """One direction, the bytes that were copied, and when the last were (the loop's time)."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    count: int = 0
    last_moved: float = 0.0

    async def copy(self) -> None:
        loop = asyncio.get_running_loop()
        self.last_moved = loop.time()
        while data := await self.reader.read(READ_SIZE):
            self.last_moved = loop.time()
            self.count += len(data)
            self.writer.write(data)
            await self.writer.drain()
        if self.writer.can_write_eof():
            self.writer.write_eof()


class Relay:
    """A tunnel. ``sent`` and ``received`` count bytes as its ``near`` side sees them."""

    def __init__(self, near: Streams, far: Streams) -> None:
        self._out = _Flow(near[0], far[1])
        self._in = _Flow(far[0], near[1])

    @property
    def sent(self) -> int:
        return self._out.count

    @property
    def received(self) -> int:
        return self._in.count

    async def run(self) -> None:
        """Returns when both directions have ended, one broke, or both were silent too long."""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch_idle())
                await asyncio.wait(
                    [group.create_task(flow.copy()) for flow in (self._out, self._in)]
                )
                watch.cancel()
        except* (OSError, TimeoutError):
            pass  # the usual end of a tunnel

    async def _watch_idle(self) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        while (left := since + IDLE_TIMEOUT - loop.time()) > 0:
            await asyncio.sleep(left)
            since = max(self._out.last_moved, self._in.last_moved)
        raise TimeoutError
