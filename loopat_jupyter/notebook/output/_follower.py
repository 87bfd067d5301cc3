"""A thread that keeps an output in step with a loop: rewritten when a turn has ended.

It reads the transcript, shows it, and follows the loop's events from exactly there (or from
``seq``, up to where its owner has shown it), so no turn is missed between the two. A server that is
away is waited for. The thread ends with ``close()``, when its owner is forgotten, and with the
kernel; it holds its own connection and nothing of the owner.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from loopat_jupyter.client import (
    AsyncClient,
    AsyncLoop,
    ConnectionFailed,
    LoopatError,
    RetryPolicy,
    ServerAddress,
)

from ._loop import TURNS

Tell = Callable[[Mapping[str, Any], int | None], None]
"""Shows a transcript (format ``json``) of a loop with so many turns; called in the thread."""


class Follower:
    """Starts at once. ``retry`` says how long to wait between attempts to reach the server."""

    def __init__(
        self,
        address: ServerAddress,
        loop_id: str,
        tell: Tell,
        seq: int | None = None,
        *,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._thread = _FollowerThread(address, loop_id, tell, seq, retry or RetryPolicy())
        weakref.finalize(self, self._thread.cancel)

    @property
    def failure(self) -> LoopatError | None:
        """Why it has ended, where it ended by itself."""
        return self._thread.failure

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive

    def close(self) -> None:
        """End the thread; returns when it has ended. Again: nothing happens."""
        self._thread.cancel()
        self._thread.join()


class _FollowerThread:
    def __init__(
        self,
        address: ServerAddress,
        loop_id: str,
        tell: Tell,
        seq: int | None,
        retry: RetryPolicy,
    ) -> None:
        self.failure: LoopatError | None = None
        self._address = address
        self._loop_id = loop_id
        self._tell = tell
        self._seq = seq
        self._retry = retry
        self._events = asyncio.new_event_loop()
        self._work: asyncio.Task[None] | None = None
        context = contextvars.copy_context()  # where the outputs of this cell go
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"loopat story {loop_id}", daemon=True
        )
        self._started = threading.Event()
        self._thread.start()
        self._started.wait()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Let it end soon. Waits for nothing: it may be called in the midst of anything."""
        if self.is_alive and self._work is not None:
            self._events.call_soon_threadsafe(self._work.cancel)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._events) as runner:
            try:
                runner.run(self._follow())
            except asyncio.CancelledError:
                return
            except LoopatError as error:
                self.failure = error

    async def _follow(self) -> None:
        self._work = asyncio.current_task()
        self._started.set()
        failures = 0
        async with AsyncClient(self._address, retry=self._retry) as client:
            while True:
                try:
                    loop = await client.loops.get(self._loop_id)
                    failures = 0
                    await self._follow_once(loop)
                except ConnectionFailed:
                    failures += 1
                    await asyncio.sleep(self._retry.delay(failures))

    async def _follow_once(self, loop: AsyncLoop) -> None:
        """Tell what there is, then again after every turn, until the connection is lost."""
        seq, self._seq = self._seq, None
        seq = seq if seq is not None else await self._retell(loop)
        async with await loop.events(after_seq=seq) as events:
            async for event in events:
                if event.terminal and (event.seq or 0) > seq:
                    await loop.refresh()
                    seq = await self._retell(loop)

    async def _retell(self, loop: AsyncLoop) -> int:
        document = await loop.transcript("json", last=TURNS)
        self._tell(document, loop.info.turn_count)
        return int(document["seq"])
