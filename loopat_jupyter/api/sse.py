"""Server-sent events: write a subscription's events to a connection.

One coroutine per stream writes what the subscription holds, in order, and flushes at once. It ends
when the client disconnects, after the terminal event where the stream is of one turn, when the
subscription is ended (revoked token, shutdown), or when the client reads too slowly; then the
connection is closed, and the client resumes from its cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tornado.iostream import StreamClosedError

from ..loops.errors import InvalidParameter
from ..loops.event_broadcaster import Frame, SlowConsumer, Subscription
from ..loops.models import to_json
from .handler import LoopatHandler

CONTENT_TYPE = "text/event-stream"


def encode(name: str, data: Mapping[str, Any]) -> bytes:
    """An event of this connection alone: it has no ``id`` and is not stored."""
    return f"event: {name}\ndata: {to_json(dict(data))}\n\n".encode()


PING = Frame(0, "", False, encode("ping", {}))


class EventStreamHandler(LoopatHandler):
    """Base of the handlers whose response is a stream."""

    _subscription: Subscription | None = None
    _writing = False

    @property
    def wants_sdk_messages(self) -> bool:
        """Whether ``?include=sdk_message`` was asked for."""
        included = self.get_query_arguments("include")
        if any(name != "sdk_message" for name in included):
            raise InvalidParameter("include can only be sdk_message.")
        return bool(included)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._subscription is not None:
            self._subscription.end()

    async def stream(
        self,
        subscription: Subscription,
        *,
        first: bytes = b"",
        upto: int = 0,
        turn_id: str | None = None,
        after: int = 0,
    ) -> None:
        """Send the stream: ``first``, then the stored events with ``after < seq <= upto``, then
        live ones. With a ``turn_id`` only that turn's events, up to its terminal one."""
        self._subscription = subscription
        subscription.on_end(self._abort_if_blocked)
        token_id = self.caller.token_id
        if token_id is not None:
            self.context.tokens.add_stream(token_id, subscription.end)
        pings = _Heartbeat(subscription, self.context.ping_interval)
        try:
            self._open()
            await self._write_and_flush(first)
            if await self._replay(subscription.loop_id, after, upto, turn_id):
                return
            await self._stream_live(subscription, upto, turn_id)
        except (SlowConsumer, StreamClosedError):
            self.abort_connection()
        finally:
            pings.stop()
            if token_id is not None:
                self.context.tokens.remove_stream(token_id, subscription.end)

    async def _stream_live(
        self, subscription: Subscription, upto: int, turn_id: str | None
    ) -> None:
        def write_now(frame: Frame) -> bool:
            if frame.turn_id and turn_id not in (None, frame.turn_id):
                return True
            if 0 < frame.seq <= upto:
                return True
            return not (turn_id and frame.terminal) and self._write_now(frame.encoded)

        while True:
            subscription.set_direct_sink(write_now)
            frames = await subscription.next_frames()
            subscription.set_direct_sink(None)
            if not frames:
                return
            kept = [f for f in frames if f.seq == 0 or f.seq > upto]
            if await self._send_frames(kept, turn_id):
                return

    def _write_now(self, data: bytes) -> bool:
        """Write without waiting; ``False`` when the connection has not taken the last bytes yet."""
        connection: Any = self.request.connection
        if connection.stream.writing():
            return False
        connection.write(data)
        return True

    @property
    def _ended(self) -> bool:
        """Whether the subscription was ended while stored events were still being sent."""
        return self._subscription is not None and self._subscription.ended

    def _open(self) -> None:
        self.set_status(200)
        self.set_header("Content-Type", CONTENT_TYPE)
        self.set_header("Cache-Control", "no-cache, no-transform")
        self.set_header("X-Accel-Buffering", "no")
        # Events are written past Tornado's output transforms (compression, where it is on).
        self._transforms = []
        # Events are small, and each is to leave at once: no waiting for the last one's receipt.
        connection: Any = self.request.connection
        connection.stream.set_nodelay(True)

    async def _replay(self, loop_id: str, after: int, upto: int, turn_id: str | None) -> bool:
        pages = self.context.broadcaster.replay(loop_id, after, upto, turn_id=turn_id)
        async for page in pages:
            if self._ended:
                return True
            if await self._send_frames(page, turn_id):
                return True
        return False

    async def _send_frames(self, frames: list[Frame], turn_id: str | None) -> bool:
        """Write the frames. Returns whether the one turn's terminal event was among them."""
        if turn_id is not None:
            frames = [f for f in frames if f.turn_id in ("", turn_id)]
            end = next((i for i, f in enumerate(frames) if f.terminal), None)
            if end is not None:
                await self._write_and_flush(b"".join(f.encoded for f in frames[: end + 1]))
                return True
        await self._write_and_flush(b"".join(f.encoded for f in frames))
        return False

    async def _write_and_flush(self, data: bytes) -> None:
        if data:
            self.write(data)
        elif self._headers_written:
            return
        self._writing = True
        try:
            await self.flush()
        finally:
            self._writing = False

    def _abort_if_blocked(self) -> None:
        # A client that does not read holds the write up; only closing the connection ends it.
        if self._writing:
            self.abort_connection()

    def finish(self, *args: Any, **kwargs: Any) -> asyncio.Future[None]:
        if self._headers_written:
            kwargs["set_content_type"] = CONTENT_TYPE
        return super().finish(*args, **kwargs)


class _Heartbeat:
    """Pushes a ``ping`` into a subscription every ``interval`` seconds until stopped."""

    def __init__(self, subscription: Subscription, interval: float) -> None:
        self._subscription = subscription
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(interval, self._ping)

    def _ping(self) -> None:
        self._subscription.push(PING)
        self._timer = self._loop.call_later(self._interval, self._ping)

    def stop(self) -> None:
        self._timer.cancel()
