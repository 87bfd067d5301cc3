"""Delivery of stored events to the open connections of this server.

Store, then publish: :meth:`EventBroadcaster.publish` is called by the store on the event loop's
thread, after the commit, in sequence order. A subscriber registers *before* it reads the store, so
no event is lost between its replay and what is published to it.

A subscriber's buffer is bounded. One that reads too slowly is dropped (``lagged``), never an
event of it: it comes back with its cursor. Publishing never waits for anybody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from .models import LoopEvent
from .ports.store import EventStore

BUFFER_BYTES = 4 << 20
"""What one subscriber may lag behind, in bytes of encoded events."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An encoded event on its way to a connection. ``seq`` 0: not stored, of this connection."""

    seq: int
    turn_id: str
    terminal: bool
    encoded: bytes


class SlowConsumer(Exception):
    """The subscriber read too slowly and was dropped; it resumes from its cursor."""


class Subscription:
    """One connection's view of one loop. Use as a context manager; ends by leaving it."""

    def __init__(self, log: EventBroadcaster, loop_id: str, *, raw: bool) -> None:
        self._log = log
        self.loop_id = loop_id
        self.raw = raw
        self._buffer: deque[Frame] = deque()
        self._size = 0
        self._ready = asyncio.Event()
        self._on_end: Callable[[], None] = lambda: None
        self._sink: Callable[[Frame], bool] | None = None
        self.lagged = False
        self.ended = False

    def __enter__(self) -> Subscription:
        self._log.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._log.remove(self)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Called once, at once, when the subscription is ended from the other side."""
        self._on_end = callback

    def set_direct_sink(self, sink: Callable[[Frame], bool] | None) -> None:
        """Hand frames straight to ``sink`` while nothing is buffered.

        It saves waking a task for every event. ``sink`` returns whether it took the frame; one
        that it did not take is buffered, and so are all that follow until :meth:`next_frames` was
        called.
        """
        self._sink = sink

    def push(self, frame: Frame) -> None:
        if self.ended:
            return
        if self._sink is not None and not self._buffer and self._sink(frame):
            return
        if self._size > BUFFER_BYTES:  # one frame may be larger than that; a backlog may not
            self.lagged = True
            self._buffer.clear()
            self.end()
            return
        self._buffer.append(frame)
        self._size += len(frame.encoded)
        self._ready.set()

    def end(self) -> None:
        """End it from the server's side (revoked credential, shutdown, lag)."""
        if not self.ended:
            self.ended = True
            self._ready.set()
            self._on_end()

    async def next_frames(self) -> list[Frame]:
        """Everything that has come since the last call; waits for the first. Empty: ended.

        Raises:
            SlowConsumer: the buffer ran over.
        """
        await self._ready.wait()
        if self.lagged:
            raise SlowConsumer
        frames = list(self._buffer)
        self._buffer.clear()
        self._size = 0
        if not self.ended:
            self._ready.clear()
        return frames


class EventBroadcaster:
    """All subscriptions of this server, by loop."""

    def __init__(self, events: EventStore) -> None:
        self._events = events
        self._subscriptions: dict[str, set[Subscription]] = {}

    def subscribe(self, loop_id: str, *, raw: bool = False) -> Subscription:
        """``raw``: also deliver the engine's own messages (``sdk_message``)."""
        return Subscription(self, loop_id, raw=raw)

    def add(self, subscription: Subscription) -> None:
        self._subscriptions.setdefault(subscription.loop_id, set()).add(subscription)

    def remove(self, subscription: Subscription) -> None:
        listeners = self._subscriptions.get(subscription.loop_id)
        if listeners is not None:
            listeners.discard(subscription)
            if not listeners:
                del self._subscriptions[subscription.loop_id]

    def __len__(self) -> int:
        return sum(map(len, self._subscriptions.values()))

    def publish(self, events: Sequence[LoopEvent]) -> None:
        """Deliver stored events to the subscriptions of their loop; each is encoded once."""
        for event in events:
            listeners = self._subscriptions.get(event.loop_id)
            if not listeners:
                continue
            frame = Frame(event.seq, event.turn_id, event.terminal, event.frame)
            for subscription in tuple(listeners):
                subscription.push(frame)

    def publish_sdk_message(self, loop_id: str, turn_id: str, encoded: bytes) -> None:
        """Hand an engine's own message to the connections that asked for it. Not stored."""
        frame = Frame(0, turn_id, False, encoded)
        for subscription in tuple(self._subscriptions.get(loop_id, ())):
            if subscription.raw:
                subscription.push(frame)

    def wants_sdk_messages(self, loop_id: str) -> bool:
        return any(subscription.raw for subscription in self._subscriptions.get(loop_id, ()))

    def end_all(self) -> None:
        """End every subscription (shutdown)."""
        for listeners in tuple(self._subscriptions.values()):
            for subscription in tuple(listeners):
                subscription.end()

    async def replay(
        self, loop_id: str, after: int, upto: int, *, turn_id: str | None = None
    ) -> AsyncIterator[list[Frame]]:
        """Stored events with ``after < seq <= upto``, page by page."""
        while after < upto:
            page = await self._events.page(loop_id, after, upto, turn_id=turn_id)
            if not page:
                return
            yield [Frame(e.seq, e.turn_id, e.terminal, e.frame) for e in page]
            after = page[-1].seq
