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
from .proxy_tunnel import Address, Route, open_route

CONNECT_TIMEOUT = 10.0
SILENCE = 600.0
"""Seconds without a byte. Local servers think for minutes before the first one."""
KEPT = 16
"""Idle connections to one address; each for so many seconds:"""
KEPT_FOR = 30.0
READ_SIZE = 64 * 1024
HEAD_LIMIT = 256 * 1024


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request. Without a ``content-length`` its body goes in chunks."""

    method: str
    target: str
    headers: Headers
    body: AsyncIterator[bytes] | None


class _Wire:
    """One connection to a provider."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        self.expiry: asyncio.TimerHandle | None = None

    async def send(self, request: Outgoing, host: str) -> None:
        headers = [("host", host), *self.route.headers, *request.headers]
        if request.body is not None and all(name != "content-length" for name, _ in headers):
            headers.append(("transfer-encoding", "chunked"))
        waiting = self._head(request, headers)
        if request.body is not None:
            async for piece in request.body:  # the first piece goes with the head
                await self._write(waiting + (self.http.send(h11.Data(data=piece)) or b""))
                waiting = b""
        await self._write(waiting + (self.http.send(h11.EndOfMessage()) or b""))

    def _head(self, request: Outgoing, headers: list[tuple[str, str]]) -> bytes:
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
            async with asyncio.timeout(SILENCE):
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
            async with asyncio.timeout(SILENCE):
                data = await self.route.reader.read(READ_SIZE)
            self.http.receive_data(data)
        return event

    @property
    def fresh(self) -> bool:
        return not (self.route.reader.at_eof() or self.route.writer.is_closing())

    def rest(self) -> bool:
        """Be ready for the next request; ``False`` where the connection is not fit for one."""
        done = self.http.our_state is h11.DONE and self.http.their_state is h11.DONE
        if not done or self.http.trailing_data[0] or not self.fresh:
            return False
        self.http.start_next_cycle()
        return True

    def drop(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
        self.route.writer.transport.abort()


class Reply:
    """An answer that has begun; must be closed."""

    def __init__(self, carrier: Carrier, address: Address, wire: _Wire, head: h11.Response) -> None:
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
            raise OSError(why(error)) from error
        except h11.RemoteProtocolError as error:
            raise OSError(_GARBLED) from error

    def close(self) -> None:
        """Idempotent."""
        self._carrier.take_back(self._address, self._wire)


class Carrier:
    """The connections of one server to all its providers. Close it when nothing is under way."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: dict[Address, list[_Wire]] = {}
        self._busy: set[_Wire] = set()

    async def ask(self, address: Address, request: Outgoing) -> Reply:
        """Send a request; returns with the head of the answer.

        Raises:
            OSError: the provider could not be reached, or broke off; the message is for people.
        """
        try:
            wire = self._kept(address) or _Wire(await self._route(address))
        except OSError as error:
            raise OSError(why(error)) from error
        self._busy.add(wire)
        try:
            await wire.send(request, address.authority)
            return Reply(self, address, wire, await wire.head())
        except BaseException as error:
            self._busy.discard(wire)
            wire.drop()
            if isinstance(error, OSError):
                raise OSError(why(error)) from error
            if isinstance(error, h11.RemoteProtocolError):
                raise OSError(_GARBLED) from error
            raise

    async def _route(self, address: Address) -> Route:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await open_route(address, self._tls)

    def _kept(self, address: Address) -> _Wire | None:
        idle = self._idle.get(address, [])
        while idle:
            wire = idle.pop()
            assert wire.expiry is not None
            wire.expiry.cancel()
            if wire.fresh:
                return wire
            wire.drop()
        return None

    def take_back(self, address: Address, wire: _Wire) -> None:
        if wire not in self._busy:
            return
        self._busy.discard(wire)
        idle = self._idle.setdefault(address, [])
        if len(idle) >= KEPT or not wire.rest():
            wire.drop()
            return
        idle.append(wire)
        loop = asyncio.get_running_loop()
        wire.expiry = loop.call_later(KEPT_FOR, self._expire, address, wire)

    def _expire(self, address: Address, wire: _Wire) -> None:
        self._idle[address].remove(wire)
        wire.drop()

    def close(self) -> None:
        """Drop every connection. Idempotent."""
        for wire in [*self._busy, *(wire for idle in self._idle.values() for wire in idle)]:
            wire.drop()
        self._idle.clear()
        self._busy.clear()


_GARBLED = "it sent what is no valid HTTP/1.1, or broke off"


def why(error: OSError) -> str:
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
