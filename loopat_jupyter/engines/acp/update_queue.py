"""What an agent says during one prompt, in order: bounded, and thrown away between prompts."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")

SIZE = 4


class UpdateQueue(Generic[T]):
    """One reader. A writer waits while it is full; nobody waits while it is closed."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T] | None = None

    def open(self) -> None:
        """From here on things are kept."""
        self._queue = asyncio.Queue(SIZE)

    def close(self) -> list[T]:
        """Keep nothing more, and let whoever waits to write go on. Returns what nobody read."""
        queue, self._queue = self._queue, None
        unread: list[T] = []
        while queue is not None and not queue.empty():
            unread.append(queue.get_nowait())
        return unread

    async def put(self, item: T) -> bool:
        """``False`` if nobody will read it."""
        queue = self._queue
        if queue is None:
            return False
        await queue.put(item)
        return queue is self._queue

    async def get(self) -> T:
        assert self._queue is not None
        return await self._queue.get()
