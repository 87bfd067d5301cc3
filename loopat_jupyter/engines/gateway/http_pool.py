"""Requests to a provider, byte for byte: HTTP/1.1 over kept-alive connections.

What a sandbox's program asks its model goes this way instead of through the SDKs' HTTP client,
which costs several times as much for each request and each piece of a stream, and adds headers of
its own. :mod:`h11` keeps both sides to the protocol. No redirect is followed, nothing is sent
twice, nothing is decoded. A proxy of the server's environment is honoured (see :mod:`.tunnelling`).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import h11

from ...loops.ports.network import Headers
from .proxy_tunnel import TunnelConnection, UpstreamAddress, open_connection

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 600.0
"""Seconds without a byte. Local servers think for minutes before the first one."""
MAX_IDLE = 16
"""Idle connections to one address; each for so many seconds:"""
IDLE_SECONDS = 30.0
READ_SIZE = 64 * 1024
HEAD_LIMIT = 256 * 1024


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. Without a ``content-length`` its body goes in chunks."""

    method: str
    target: str
    headers: Headers
    body: AsyncIterator[bytes] | None


class _Connection:
    """One connection to a provider."""

    def __init__(self, route: TunnelConnection) -> None:
        self.route = route
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self.expiry: asyncio.TimerHandle | None = None

    async def send(self, request: HttpRequest, host: str) -> None:
        headers = [("host", host), *self.route.headers, *request.headers]
        if request.body is not None and all(name != "content-length" for name, _ in headers):
            headers.append(("transfer-encoding", "chunked"))
        waiting = self._head(request, headers)
        if request.body is not None:
            async for piece in request.body:  # the first piece goes with the head
                await self._write(waiting + (self.http.send(h11.Data(data=piece)) or b""))
                waiting = b""
        await self._write(waiting + (self.http.send(h11.EndOfMessage()) or b""))

    def _head(self, request: HttpRequest, headers: list[tuple[str, str]]) -> bytes:
        target = self.route.prefix + request.target
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
        self.route.writer.write(data)
        if self.route.writer.transport.get_write_buffer_size():
            async with asyncio.timeout(READ_TIMEOUT):
                await self.route.writer.drain()

    async def head(self) -> h11.Response:
        event = await self.event()
        while isinstance(event, h11.InformationalResponse):
            event = await self.event()
        if not isinstance(event, h11.Response):
            raise ConnectionResetError
        return event

    async def event(self) -> object:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(READ_TIMEOUT):
                data = await self.route.reader.read(READ_SIZE)
            self.http.receive_data(data)
        return event

    @property
    def reusable(self) -> bool:
        return not (self.route.reader.at_eof() or self.route.writer.is_closing())

    def reset(self) -> bool:
        """Be ready for the next request; ``False`` where the connection is not fit for one."""
        done = self.http.our_state is h11.DONE and self.http.their_state is h11.DONE
        if not done or self.http.trailing_data[0] or not self.reusable:
            return False
        self.http.start_next_cycle()
        return True

    def drop(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
        self.route.writer.transport.abort()


class HttpResponse:
    """An answer that has begun; must be closed."""

    def __init__(
        self,
        carrier: ConnectionPool,
        address: UpstreamAddress,
        wire: _Connection,
        head: h11.Response,
    ) -> None:
        self._carrier = carrier
        self._address = address
        self._wire = wire
        self.status: int = head.status_code
        self.headers: Headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers
        ]

    async def body(self) -> AsyncIterator[bytes]:
        """Raises ``OSError`` when it breaks off."""
        try:
            while isinstance(event := await self._wire.event(), h11.Data):
                yield bytes(event.data)
        except OSError as error:
            raise OSError(describe_error(error)) from error
        except h11.RemoteProtocolError as error:
            raise OSError(_GARBLED) from error

    def close(self) -> None:
        """Idempotent."""
        self._carrier.release(self._address, self._wire)


class ConnectionPool:
    """The connections of one server to all its providers. Close it when nothing is under way."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: dict[UpstreamAddress, list[_Connection]] = {}
        self._busy: set[_Connection] = set()

    async def send_request(self, address: UpstreamAddress, request: HttpRequest) -> HttpResponse:
        """Send a request; returns with the head of the answer.

        Raises:
            OSError: the provider could not be reached, or broke off; the message is for people.
        """
        try:
            wire = self._kept(address) or _Connection(await self._route(address))
        except OSError as error:
            raise OSError(describe_error(error)) from error
        self._busy.add(wire)
        try:
            await wire.send(request, address.authority)
            return HttpResponse(self, address, wire, await wire.head())
        except BaseException as error:
            self._busy.discard(wire)
            wire.drop()
            if isinstance(error, OSError):
                raise OSError(describe_error(error)) from error
            if isinstance(error, h11.RemoteProtocolError):
                raise OSError(_GARBLED) from error
            raise

    async def _route(self, address: UpstreamAddress) -> TunnelConnection:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await open_connection(address, self._tls)

    def _kept(self, address: UpstreamAddress) -> _Connection | None:
        idle = self._idle.get(address, [])
        while idle:
            wire = idle.pop()
            assert wire.expiry is not None
            wire.expiry.cancel()
            if wire.reusable:
                return wire
            wire.drop()
        return None

    def release(self, address: UpstreamAddress, wire: _Connection) -> None:
        if wire not in self._busy:
            return
        self._busy.discard(wire)
        idle = self._idle.setdefault(address, [])
        if len(idle) >= MAX_IDLE or not wire.reset():
            wire.drop()
            return
        idle.append(wire)
        loop = asyncio.get_running_loop()
        wire.expiry = loop.call_later(IDLE_SECONDS, self._expire, address, wire)

    def _expire(self, address: UpstreamAddress, wire: _Connection) -> None:
        self._idle[address].remove(wire)
        wire.drop()

    def close(self) -> None:
        """Drop every connection. Idempotent."""
        for wire in [*self._busy, *(wire for idle in self._idle.values() for wire in idle)]:
            wire.drop()
        self._idle.clear()
        self._busy.clear()


_GARBLED = "it sent what is no valid HTTP/1.1, or broke off"


def describe_error(error: OSError) -> str:
    """What happened, in words that hold no address and no secret."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "no TLS connection could be made"
    if error.errno is not None and error.strerror and error.errno > 0:
        return os.strerror(error.errno)
    return error.args[0] if type(error) is OSError and error.args else "the connection broke off"
