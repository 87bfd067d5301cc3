"""A thread that keeps an output up to date with a loop: rewritten when a turn has ended.

It reads the transcript, hands it over, and follows the loop's events from exactly there (or from
``seq``, up to which its owner has shown it), so that no turn is missed between the two. While the
server cannot be reached it tries again. The thread ends with ``close()``, when its owner is garbage
collected, and with the kernel; it holds its own connection and no reference to the owner.
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

from ._markdown import LOOP_TURNS

OnTranscript = Callable[[Mapping[str, Any], int | None], None]
"""Takes a transcript (format ``json``) and the number of the loop's turns; called in the thread."""


class Follower:
    """Owns the thread, which starts at once. ``retry`` says how long it waits between attempts to
    reach the server."""

    def __init__(
        self,
        address: ServerAddress,
        loop_id: str,
        on_transcript: OnTranscript,
        seq: int | None = None,
        *,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._thread = _FollowerThread(address, loop_id, on_transcript, seq, retry or RetryPolicy())
        weakref.finalize(self, self._thread.cancel)

    @property
    def failure(self) -> LoopatError | None:
        """The error that ended the thread; ``None`` while it runs or after ``close``."""
        return self._thread.failure

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive

    def close(self) -> None:
        """End the thread and wait for it. A second call does nothing."""
        self._thread.cancel()
        self._thread.join()


class _FollowerThread:
    def __init__(
        self,
        address: ServerAddress,
        loop_id: str,
        on_transcript: OnTranscript,
        seq: int | None,
        retry: RetryPolicy,
    ) -> None:
        self.failure: LoopatError | None = None
        self._address = address
        self._loop_id = loop_id
        self._on_transcript = on_transcript
        self._seq = seq
        self._retry = retry
        self._event_loop = asyncio.new_event_loop()
        self._work: asyncio.Task[None] | None = None
        context = contextvars.copy_context()  # where the outputs of this cell go
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"loopat transcript {loop_id}", daemon=True
        )
        self._started = threading.Event()
        self._thread.start()
        self._started.wait()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Make the thread end soon. Does not wait: a finalizer may call it at any moment."""
        if self.is_alive and self._work is not None:
            self._event_loop.call_soon_threadsafe(self._work.cancel)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._event_loop) as runner:
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
        """Hand over the transcript now and after every turn, until the connection is lost."""
        seq, self._seq = self._seq, None
        seq = seq if seq is not None else await self._hand_over_transcript(loop)
        async with await loop.events(after_seq=seq) as events:
            async for event in events:
                if event.terminal and (event.seq or 0) > seq:
                    await loop.refresh()
                    seq = await self._hand_over_transcript(loop)

    async def _hand_over_transcript(self, loop: AsyncLoop) -> int:
        document = await loop.transcript("json", last=LOOP_TURNS)
        self._on_transcript(document, loop.info.turn_count)
        return int(document["seq"])
