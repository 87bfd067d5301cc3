"""A pool of HTTP/1.1 client connections to providers, over which bytes pass unchanged.

:mod:`h11` enforces the protocol on both sides. No redirect is followed, no request is sent twice,
nothing is decoded. A proxy that the server's environment names is used (see :mod:`.proxy_tunnel`).

The pooled HTTP client of the provider SDKs is not used here for three reasons. It reuses a
connection on which something follows a response, so that a provider could plant the response of
another loop's request. It closes idle connections only when the next request comes. And it costs
two to three times as much for each request, of which an agent makes many.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import h11

from ...loops.ports.network import Headers
from .proxy_tunnel import UpstreamAddress, UpstreamStreams, open_connection

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 600.0
"""Seconds without a byte. Local servers compute for minutes before the first one."""
MAX_IDLE = 16
"""Idle connections that are kept to one address."""
IDLE_SECONDS = 30.0
"""How long each of them is kept."""
READ_SIZE = 64 * 1024
HEAD_LIMIT = 256 * 1024
"""Bytes of a response's status line and headers."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. A body without a ``content-length`` is sent chunked."""

    method: str
    target: str
    headers: Headers
    body: AsyncIterator[bytes] | None


class _Connection:
    """One connection to a provider, which serves one request after the other."""

    def __init__(self, streams: UpstreamStreams) -> None:
        self.streams = streams
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self.expiry: asyncio.TimerHandle | None = None

    async def send_request(self, request: HttpRequest, host: str) -> None:
        headers = [("host", host), *self.streams.headers, *request.headers]
        if request.body is not None and all(name != "content-length" for name, _ in headers):
            headers.append(("transfer-encoding", "chunked"))
        unsent = self._encode_head(request, headers)
        if request.body is not None:
            async for chunk in request.body:  # the first chunk goes out together with the head
                await self._write(unsent + (self.http.send(h11.Data(data=chunk)) or b""))
                unsent = b""
        await self._write(unsent + (self.http.send(h11.EndOfMessage()) or b""))

    def _encode_head(self, request: HttpRequest, headers: list[tuple[str, str]]) -> bytes:
        target = self.streams.prefix + request.target
        try:
            return (
                self.http.send(h11.Request(method=request.method, target=target, headers=headers))
                or b""
            )
        except h11.LocalProtocolError:  # its message would show the header, the key perhaps
            raise OSError("its address or key in config.json cannot be written in HTTP") from None

    async def _write(self, data: bytes) -> None:
        if not data:
            return
        self.streams.writer.write(data)
        if self.streams.writer.transport.get_write_buffer_size():
            async with asyncio.timeout(READ_TIMEOUT):
                await self.streams.writer.drain()

    async def read_head(self) -> h11.Response:
        event = await self.next_event()
        while isinstance(event, h11.InformationalResponse):
            event = await self.next_event()
        if not isinstance(event, h11.Response):
            raise ConnectionResetError
        return event

    async def next_event(self) -> object:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(READ_TIMEOUT):
                data = await self.streams.reader.read(READ_SIZE)
            self.http.receive_data(data)
        return event

    @property
    def reusable(self) -> bool:
        """Whether neither side has closed the connection."""
        return not (self.streams.reader.at_eof() or self.streams.writer.is_closing())

    def reset(self) -> bool:
        """Prepare for the next request. ``False``: the exchange is not complete on both sides, or
        something follows the response."""
        done = self.http.our_state is h11.DONE and self.http.their_state is h11.DONE
        if not done or self.http.trailing_data[0] or not self.reusable:
            return False
        self.http.start_next_cycle()
        return True

    def abort(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
        self.streams.writer.transport.abort()


class HttpResponse:
    """A response whose head has been read; must be closed."""

    def __init__(
        self,
        pool: ConnectionPool,
        address: UpstreamAddress,
        connection: _Connection,
        head: h11.Response,
    ) -> None:
        self._pool = pool
        self._address = address
        self._connection = connection
        self.status: int = head.status_code
        self.headers: Headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers
        ]

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ``OSError`` where it breaks off."""
        try:
            while isinstance(event := await self._connection.next_event(), h11.Data):
                yield bytes(event.data)
        except OSError as error:
            raise OSError(describe_error(error)) from error
        except h11.RemoteProtocolError as error:
            raise OSError(_INVALID) from error

    def close(self) -> None:
        """Give the connection back to the pool. Idempotent."""
        self._pool.release(self._address, self._connection)


class ConnectionPool:
    """The connections of this server to all its providers, busy and idle."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: dict[UpstreamAddress, list[_Connection]] = {}
        self._busy: set[_Connection] = set()

    async def send_request(self, address: UpstreamAddress, request: HttpRequest) -> HttpResponse:
        """Send a request; returns when the response's head has been read.

        Raises:
            OSError: the provider could not be reached, or the connection broke; the message is
                for people and holds no secret.
        """
        try:
            connection = self._take_idle(address) or _Connection(await self._connect(address))
        except OSError as error:
            raise OSError(describe_error(error)) from error
        self._busy.add(connection)
        try:
            await connection.send_request(request, address.authority)
            return HttpResponse(self, address, connection, await connection.read_head())
        except BaseException as error:
            self._busy.discard(connection)
            connection.abort()
            if isinstance(error, OSError):
                raise OSError(describe_error(error)) from error
            if isinstance(error, h11.RemoteProtocolError):
                raise OSError(_INVALID) from error
            raise

    async def _connect(self, address: UpstreamAddress) -> UpstreamStreams:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await open_connection(address, self._tls)

    def _take_idle(self, address: UpstreamAddress) -> _Connection | None:
        idle = self._idle.get(address, [])
        while idle:
            connection = idle.pop()
            assert connection.expiry is not None
            connection.expiry.cancel()
            if connection.reusable:
                return connection
            connection.abort()
        return None

    def release(self, address: UpstreamAddress, connection: _Connection) -> None:
        """Keep a connection for the next request, where it can serve one. Idempotent."""
        if connection not in self._busy:
            return
        self._busy.discard(connection)
        idle = self._idle.setdefault(address, [])
        if len(idle) >= MAX_IDLE or not connection.reset():
            connection.abort()
            return
        idle.append(connection)
        loop = asyncio.get_running_loop()
        connection.expiry = loop.call_later(IDLE_SECONDS, self._expire, address, connection)

    def _expire(self, address: UpstreamAddress, connection: _Connection) -> None:
        self._idle[address].remove(connection)
        connection.abort()

    def close(self) -> None:
        """Abort every connection, also those of requests that are not complete. Idempotent."""
        for connection in [
            *self._busy,
            *(connection for idle in self._idle.values() for connection in idle),
        ]:
            connection.abort()
        self._idle.clear()
        self._busy.clear()


_INVALID = "it sent what is no valid HTTP/1.1, or broke off"


def describe_error(error: OSError) -> str:
    """The error for people, without any address or secret."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "no TLS connection could be made"
    if error.errno is not None and error.strerror and error.errno > 0:
        return os.strerror(error.errno)
    return error.args[0] if type(error) is OSError and error.args else "the connection broke off"
