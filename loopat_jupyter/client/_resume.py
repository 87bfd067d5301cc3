"""A stream that outlives its connections, as a state machine without I/O.

The carrier opens :meth:`ResumingStream.next_call`, feeds every server-sent event to
:meth:`accept`, and tells :meth:`lost` when the connection ended; it gets back what to show, and
how long to wait before the next connection. Invariants: stored events come out in the order of
``seq``, each exactly once, whatever was cut; an event that belongs to a connection is shown
again only where it means something new.

How a turn is picked up again: as long as nothing stored was seen, by sending the same message
with the same idempotency key (the server replays, it does not run it twice), but never after
the key's window; from then on by cursor on ``/events``, where other turns are filtered out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
from httpx_sse import ServerSentEvent

from ._decode import decode_event
from ._errors import APIError, ConnectionFailed, LoopatError, StreamLost
from ._events import Event, Ping, Queued, Snapshot
from ._requests import ApiRequest
from ._retry import RetryPolicy

IDEMPOTENCY_WINDOW = 23 * 3600.0
"""Seconds in which a key may be sent again; the server remembers it for 24 hours."""


class ResumingStream:
    """One stream: of one turn (``message`` given) or of a whole loop."""

    def __init__(
        self,
        watch: Callable[[int | None], ApiRequest[None]],
        policy: RetryPolicy,
        *,
        message: ApiRequest[None] | None = None,
        cursor: int | None = None,
        pings: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cursor = cursor
        self.turn_id: str | None = None
        self.finished = False
        """The turn's terminal event was handed out."""
        self.complete = False
        """Nothing more is to be read: see :meth:`accept`."""
        self._stream_request = watch
        self._message = message
        self._policy = policy
        self._pings = pings
        self._clock = clock
        self._first_sent: float | None = None
        self._on_message = False
        self._connected = self._ever_connected = False
        self._failures = 0
        self._position: int | None = None

    def next_request(self) -> ApiRequest[None]:
        """The request that opens the next connection."""
        self._connected = False
        self._on_message = self._message is not None and self.cursor is None
        if self._message is None or self.cursor is not None:
            return self._stream_request(self.cursor)
        now = self._clock()
        self._first_sent = self._first_sent if self._first_sent is not None else now
        if now - self._first_sent > IDEMPOTENCY_WINDOW:
            raise StreamLost("the message is too old to be sent again", cursor=None)
        return self._message

    def on_connected(self) -> None:
        """The connection is there: the server has the message, or the watcher."""
        self._connected = self._ever_connected = True

    def handle_event(self, sse: ServerSentEvent) -> Event | None:
        """The event to show for ``sse``, or ``None`` when there is nothing (new) to show.

        After the terminal event a message's own connection is read to its end, because the loop
        is idle only then; a watcher's never ends, so there the stream is complete at once.
        """
        if self.finished:
            self.complete = True
            return None
        event = decode_event(sse.event, sse.data, sse.id)
        if event.seq is None:
            self._failures = 0 if isinstance(event, Ping) else self._failures
            return event if self._is_visible(event) else None
        if self.cursor is not None and event.seq <= self.cursor:
            return None
        self.cursor, self._failures = event.seq, 0
        if self._message is None:
            return event
        if self.turn_id is None:
            self.turn_id = event.turn_id
        if event.turn_id != self.turn_id:
            return None
        self.finished = event.terminal
        self.complete = self.finished and not self._on_message
        return event

    def _is_visible(self, event: Event) -> bool:
        if isinstance(event, Ping):
            return self._pings
        if isinstance(event, Queued):
            moved = event.position != self._position
            self._position = event.position
            return moved
        return self._message is None or not isinstance(event, Snapshot)

    def on_disconnected(self, cause: httpx.TransportError | None) -> float:
        """The connection ended before the stream did. Seconds to wait before the next one.

        Silence is no failure: a turn may wait for days, and pings may be rarer than the read
        timeout; the connection is made anew to be sure that somebody is there.
        """
        if self._connected and isinstance(cause, httpx.ReadTimeout):
            return 0.0
        reason = f": {cause}" if cause is not None and str(cause) else ""
        if self._ever_connected:
            message = f"the stream broke and could not be picked up again{reason}"
            return self._count_failure(StreamLost(message, cursor=self.cursor), None, cause)
        return self._count_failure(
            ConnectionFailed(f"no answer from the server{reason}"), None, cause
        )

    def on_api_error(self, error: LoopatError) -> float:
        """The server answered, but not with a stream. Seconds to wait, or raises ``error``."""
        if not (isinstance(error, APIError) and self._policy.is_transient(error)):
            raise error
        return self._count_failure(error, error.retry_after, None)

    def _count_failure(
        self, error: LoopatError, retry_after: float | None, cause: Exception | None
    ) -> float:
        self._failures += 1
        policy = self._policy
        if self._failures >= (policy.stream_attempts if self._ever_connected else policy.attempts):
            raise error from cause
        return policy.delay(self._failures, retry_after)
