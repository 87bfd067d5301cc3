"""A stream that is resumed over several connections, as a state machine without I/O.

The event stream opens :meth:`ResumingStream.next_request`, passes every server-sent event to
:meth:`ResumingStream.handle_event`, and calls :meth:`ResumingStream.on_disconnected` when the
connection ended; it gets the event to return, or the seconds to wait before the next connection.
Invariants: stored events are returned in the order of ``seq``, each exactly once, wherever the
connection broke; an event that belongs to a connection is repeated only where it changed.

How a turn is resumed: until a stored event was received, by sending the same message with the same
idempotency key (the server replays the turn and does not run it twice), but not after the key has
expired; from then on with the cursor on ``/events``, where other turns are filtered out.
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
"""Seconds in which a key may be sent again: an hour less than the server remembers it."""


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
        """The turn's terminal event was returned."""
        self.complete = False
        """Nothing more is to be read: see :meth:`handle_event`."""
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
        """The connection is open: the server has the message, or has subscribed this reader."""
        self._connected = self._ever_connected = True

    def handle_event(self, sse: ServerSentEvent) -> Event | None:
        """The event to return for ``sse``, or ``None`` where there is nothing new.

        After the terminal event the response to a message is read to its end, because only then
        the loop is idle. ``/events`` never ends, so there the stream is complete at once.
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
        """The connection ended before the stream did. Returns the seconds until the next one.

        A read timeout is not counted as a failure: a turn may wait for days, and pings may be
        rarer than the timeout. Reconnecting tests whether the server is still there.

        Raises:
            StreamLost: a stream that was open failed too often in a row.
            ConnectionFailed: it was never open.
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
        """The response was no stream. Returns the seconds to wait, or raises ``error``."""
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
