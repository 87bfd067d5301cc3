"""One connection from inside: HTTP/1.1 read strictly, and answered.

:mod:`h11` parses; this adds the streams, the bounds on time and size, and answers of our own. A
visitor that breaks the protocol gets one answer and is gone. Nothing that is written waits in this
process: a write returns when the kernel has all of it, so a slow reader costs no memory here.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from types import TracebackType

import h11

from loopat_jupyter.loops.ports.network import Headers

HEAD_LIMIT = 64 * 1024
"""Bytes of a request's line and headers."""
LINE_MAX = 1024
"""Bytes of what came last, to say in the audit what could not be understood."""
READ_SIZE = 64 * 1024
IDLE_TIMEOUT = 300.0
"""Seconds in which a kept connection may send its next request whole, or go on with a body."""
LINGER_TIMEOUT = 5.0
LINGER_SIZE = 16 * 1024 * 1024
"""Seconds and bytes for which a visitor that still sends is heard out, unread, at the end."""
REASON_MAX = 200
VERSIONS = (b"1.0", b"1.1")
_UNPRINTABLE = re.compile(r"[^ -~]+")


class ClientDisconnected(Exception):
    """The visitor left, was silent too long, or does not speak HTTP/1.1."""


class CancelScope:
    """What is done for a visitor, and may be ended from outside while it is done.

    An asynchronous context; left with ``TimeoutError`` where :meth:`end` ended it.
    """

    def __init__(self) -> None:
        self._scope = asyncio.timeout(None)

    async def __aenter__(self) -> CancelScope:
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._scope.__aexit__(kind, error, trace)

    @property
    def cancelled(self) -> bool:
        return self._scope.expired()

    def cancel(self) -> None:
        """End it at the next turn of the event loop. Idempotent."""
        if not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())


class _DisconnectWatcher(asyncio.StreamReaderProtocol):
    """Tells when the other side has closed, also while nobody reads."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader, loop=asyncio.get_running_loop())
        self.disconnected = False
        self.scope: CancelScope | None = None

    def eof_received(self) -> bool:
        self._on_disconnect()
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_disconnect()
        super().connection_lost(exc)

    def _on_disconnect(self) -> None:
        self.disconnected = True
        if self.scope is not None:
            self.scope.cancel()


class ClientConnection:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        watcher: _DisconnectWatcher,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._watcher = watcher
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self.malformed: tuple[str, str] | None = None
        """A line of what came last and was no request, and what is wrong with it."""
        self._last_data = b""
        self.bytes_received = 0
        self.bytes_sent = 0

    @classmethod
    async def accept(cls, connection: socket.socket) -> ClientConnection:
        """Take over an accepted connection."""
        loop = asyncio.get_running_loop()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(limit=READ_SIZE, loop=loop)
        watcher = _DisconnectWatcher(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: watcher, connection)
        transport.set_write_buffer_limits(0)
        return cls(reader, asyncio.StreamWriter(transport, watcher, reader, loop), watcher)

    # ------------------------------------------------------------------ requests

    async def read_request(self) -> h11.Request | None:
        """The next request; ``None`` when there is none. Raises :class:`ClientDisconnected`."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        if self._http.our_state is not h11.IDLE:
            return None
        self.bytes_received = self.bytes_sent = 0
        try:
            async with asyncio.timeout(IDLE_TIMEOUT):
                event = await self._next_event()
        except TimeoutError as error:
            raise ClientDisconnected from error
        except h11.RemoteProtocolError as error:
            await self._reject_malformed(error.error_status_hint, "This is no valid HTTP/1.1.")
            return None
        if not isinstance(event, h11.Request):
            return None
        if event.http_version not in VERSIONS:
            await self.send_error(505, "bad_request", "Only HTTP/1.1 is spoken here.")
            return None
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
            await self._reject_malformed(400, "The length of this request is said twice.")
            return None
        return event

    async def _reject_malformed(self, status: int, why: str) -> None:
        line = self._last_data.partition(b"\n")[0].decode("latin-1")
        self.malformed = (line, why)
        await self.send_error(status, "bad_request", why)

    async def read_body(self) -> AsyncIterator[bytes]:
        """The request's body as it comes. Raises :class:`ClientDisconnected`."""
        if self._http.they_are_waiting_for_100_continue:
            await self._send_event(h11.InformationalResponse(status_code=100, headers=[]))
        try:
            while isinstance(event := await self._next_body_event(), h11.Data):
                self.bytes_received += len(event.data)
                yield bytes(event.data)
        except (TimeoutError, h11.RemoteProtocolError) as error:
            raise ClientDisconnected from error
        if not isinstance(event, h11.EndOfMessage):
            raise ClientDisconnected

    def has_body(self, request: h11.Request) -> bool:
        names = {name for name, _ in request.headers}
        return b"content-length" in names or b"transfer-encoding" in names

    def cancel_on_disconnect(self, scope: CancelScope | None) -> None:
        """End this errand when the visitor leaves; ``None``: none. One that has closed its own
        side has left: whoever speaks HTTP/1.1 keeps it open for the answer."""
        self._watcher.scope = scope
        if scope is not None and self._watcher.disconnected:
            scope.cancel()

    @property
    def disconnected(self) -> bool:
        return self._watcher.disconnected

    async def _next_body_event(self) -> object:
        event = self._http.next_event()
        if event is not h11.NEED_DATA:
            return event
        async with asyncio.timeout(IDLE_TIMEOUT):
            return await self._next_event()

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                data = await self.reader.read(READ_SIZE)
            except OSError as error:
                raise ClientDisconnected from error
            self._last_data = data[:LINE_MAX]
            self._http.receive_data(data)
        return event

    # ------------------------------------------------------------------ answers

    @property
    def response_started(self) -> bool:
        """Whether an answer has begun."""
        return self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    async def send_head(self, status: int, headers: Headers, reason: str = "") -> None:
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        shown = _UNPRINTABLE.sub(" ", reason)[:REASON_MAX].encode()
        await self._send_event(h11.Response(status_code=status, headers=encoded, reason=shown))

    async def send_body(self, data: bytes) -> None:
        self.bytes_sent += len(data)
        await self._send_event(h11.Data(data=data))

    async def end_response(self) -> None:
        await self._send_event(h11.EndOfMessage())

    async def send_error(self, status: int, code: str, why: str, headers: Headers = ()) -> None:
        """Answer with an error that says why, in the body and in the status line: clients of a
        proxy show the one or the other. The connection ends with it."""
        if self.response_started:
            raise ClientDisconnected  # all that can be done is to break it off
        body = json.dumps({"error": {"type": "loopat_network", "code": code, "message": why}})
        own = [("content-type", "application/json"), ("content-length", str(len(body)))]
        # What is left of a request's body is not read.
        await self.send_head(status, [*own, *headers, ("connection", "close")], why)
        await self.send_body(body.encode())
        await self.end_response()

    async def accept_tunnel(self) -> bytes:
        """Say that the tunnel stands; what the visitor has sent into it already."""
        async for _ in self.read_body():
            raise ClientDisconnected  # what asks for a tunnel has no body
        await self._send_event(
            h11.Response(status_code=200, headers=[], reason=b"Connection established")
        )
        early, _ = self._http.trailing_data
        return early

    async def _send_event(self, event: h11.Event) -> None:
        if not (data := self._http.send(event)):
            return
        transport = self.writer.transport
        if transport.is_closing():
            raise ClientDisconnected
        self.writer.write(data)
        if transport.get_write_buffer_size():
            try:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    await self.writer.drain()
            except (OSError, TimeoutError) as error:
                raise ClientDisconnected from error

    # ------------------------------------------------------------------ the end

    async def lingering_close(self) -> None:
        """Say that nothing more comes, and hear the visitor out for a while: a connection that is
        closed with something unread is reset, and the last answer could be lost with it."""
        left = LINGER_SIZE
        try:
            self.writer.write_eof()
            async with asyncio.timeout(LINGER_TIMEOUT):
                while left > 0 and (data := await self.reader.read(READ_SIZE)):
                    left -= len(data)
        except (OSError, TimeoutError):
            return

    def abort(self) -> None:
        """Let go of the connection, now. Idempotent."""
        self.writer.transport.abort()
