"""Events gathered into batches, so that few messages leave the kernel.

A Jupyter server cuts a kernel off that sends more than a thousand messages a second, and every
message costs the browser a turn of its own. Nothing is dropped or reordered, and the first event
after a pause goes out at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

UPDATES = 20
"""Batches a second, at most."""

SIZE = 2_000
"""Events in one batch, at most: whoever brings more waits for the next."""


class Batches:
    """``async with`` it: what is gathered goes out at the latest when the block ends."""

    def __init__(self, post: Callable[[list[dict[str, Any]]], object]) -> None:
        self._post = post
        self._events: list[dict[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._earliest = 0.0
        self._room = asyncio.Event()
        self._room.set()

    async def add(self, event: dict[str, Any]) -> None:
        """Take ``event``; waits while a batch is full."""
        await self._room.wait()
        self._events.append(event)
        if len(self._events) >= SIZE:
            self._room.clear()
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self._earliest, loop.time()), self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._earliest = asyncio.get_running_loop().time() + 1 / UPDATES
        events, self._events = self._events, []
        self._room.set()
        if events:
            self._post(events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
