"""One client connection from inside a sandbox: HTTP/1.1 requests in, responses out.

:mod:`h11` parses strictly; this adds the streams, the bounds on time and size, and error responses.
A client that breaks the protocol gets one error response, and the connection ends. Nothing that is
written is buffered in this process: a write returns when the kernel has all of it, so that a slow
client takes no memory here.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator

import h11

from loopat_jupyter.loops.ports.network import Headers

HEAD_LIMIT = 64 * 1024
"""Bytes of a request's line and headers."""
LINE_MAX = 1024
"""Bytes of the last data that are kept, for the audit of a request that could not be parsed."""
READ_SIZE = 64 * 1024
IDLE_TIMEOUT = 300.0
"""Seconds for the whole next request of a kept connection, or for the next part of a body."""
LINGER_TIMEOUT = 5.0
LINGER_SIZE = 16 * 1024 * 1024
"""Seconds and bytes for which data of a client that still sends is read and dropped at the end."""
REASON_MAX = 200
VERSIONS = (b"1.0", b"1.1")
_UNPRINTABLE = re.compile(r"[^ -~]+")


class ClientDisconnected(Exception):
    """The client closed the connection, was silent too long, or does not speak HTTP/1.1."""


def cancel_scope(scope: asyncio.Timeout) -> None:
    """Cancel what runs in an ``asyncio.timeout(None)``, which then raises ``TimeoutError``.

    Unlike the cancellation of a task it ends at the scope, and code there that cleans up can wait.
    Idempotent.
    """
    if not scope.expired():
        scope.reschedule(asyncio.get_running_loop().time())


class _DisconnectWatcher(asyncio.StreamReaderProtocol):
    """Notices when the client closes the connection, also while nothing is read."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader, loop=asyncio.get_running_loop())
        self.disconnected = False
        self.scope: asyncio.Timeout | None = None

    def eof_received(self) -> bool:
        self._on_disconnect()
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_disconnect()
        super().connection_lost(exc)

    def _on_disconnect(self) -> None:
        self.disconnected = True
        if self.scope is not None:
            cancel_scope(self.scope)


class ClientConnection:
    """The server side of a connection. ``bytes_received`` and ``bytes_sent`` count the bodies of
    the current request and its response."""

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
        """A line of the last data, which was no valid request, and what is wrong with it."""
        self._last_data = b""
        self.bytes_received = 0
        self.bytes_sent = 0

    @classmethod
    async def accept(cls, connection: socket.socket) -> ClientConnection:
        """Take over an accepted connection. Raises ``OSError`` where it was closed meanwhile."""
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
            await self._reject_malformed(400, "This request gives its length twice.")
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

    def cancel_on_disconnect(self, scope: asyncio.Timeout | None) -> None:
        """Cancel this scope when the client disconnects; ``None`` for no scope any more.

        A client that has closed its own side counts as disconnected: with HTTP/1.1 it is kept open
        until the response has come.
        """
        self._watcher.scope = scope
        if scope is not None and self._watcher.disconnected:
            cancel_scope(scope)

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

    # ------------------------------------------------------------------ responses

    @property
    def response_started(self) -> bool:
        """Whether the head of a response was sent."""
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
        """Send an error response with its reason in the body and in the status line, since clients
        of a proxy show the one or the other. The connection ends with it."""
        if self.response_started:
            raise ClientDisconnected  # the response can only be cut off
        body = json.dumps({"error": {"type": "loopat_network", "code": code, "message": why}})
        own = [("content-type", "application/json"), ("content-length", str(len(body)))]
        # "close", since the rest of the request's body is not read.
        await self.send_head(status, [*own, *headers, ("connection", "close")], why)
        await self.send_body(body.encode())
        await self.end_response()

    async def accept_tunnel(self) -> bytes:
        """Send the response to CONNECT; what the client has sent into the tunnel already."""
        async for _ in self.read_body():
            raise ClientDisconnected  # a CONNECT request has no body
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
        """Close the sending side, then read and drop what the client still sends, within bounds: a
        connection that is closed with data unread is reset, and the response could be lost."""
        left = LINGER_SIZE
        try:
            self.writer.write_eof()
            async with asyncio.timeout(LINGER_TIMEOUT):
                while left > 0 and (data := await self.reader.read(READ_SIZE)):
                    left -= len(data)
        except (OSError, TimeoutError):
            return

    def abort(self) -> None:
        """Close the connection at once. Idempotent."""
        self.writer.transport.abort()
