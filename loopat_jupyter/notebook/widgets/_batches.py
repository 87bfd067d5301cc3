"""Events collected into batches, so that few messages leave the kernel.

A Jupyter server drops the messages of a kernel that sends more than a thousand a second
(``iopub_msg_rate_limit``), and every message costs the browser a task of its own. No event is
dropped or reordered, and the first one after a pause is sent at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

UPDATES = 20
"""Batches a second, at most."""

SIZE = 2_000
"""Events in one batch, at most; :meth:`Batches.add` waits while it is full."""


class Batches:
    """An async context manager; what is collected is sent at the latest when the block ends."""

    def __init__(self, send_batch: Callable[[list[dict[str, Any]]], object]) -> None:
        self._send_batch = send_batch
        self._events: list[dict[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._earliest = 0.0
        self._has_space = asyncio.Event()
        self._has_space.set()

    async def add(self, event: dict[str, Any]) -> None:
        """Put ``event`` into the next batch; waits while that is full."""
        await self._has_space.wait()
        self._events.append(event)
        if len(self._events) >= SIZE:
            self._has_space.clear()
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(self._earliest, loop.time()), self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._earliest = asyncio.get_running_loop().time() + 1 / UPDATES
        events, self._events = self._events, []
        self._has_space.set()
        if events:
            self._send_batch(events)

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
