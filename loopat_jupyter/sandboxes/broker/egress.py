"""Requests of a sandbox to the world: ``CONNECT`` tunnels and plain HTTP, by allow-list.

The destination is parsed once (:mod:`loopat_jupyter.loops.destinations`) and that spelling is
matched, resolved, dialled and written into the request that goes out. What is refused is told
why, and remembered, so that a person can be asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

import h11

from loopat_jupyter.loops.destinations import BadDestination, Destination, parse_destination
from loopat_jupyter.loops.network import Egress, Headers
from loopat_jupyter.sandboxes.broker.dialling import Dialler, Streams, Unreachable
from loopat_jupyter.sandboxes.broker.record import Record
from loopat_jupyter.sandboxes.broker.relay import Relay
from loopat_jupyter.sandboxes.broker.visitor import READ_SIZE, Gone, Visitor

HTTP_PORT = 80
REFUSED_KEPT = 32
"""Refused destinations that are remembered for asking; a scan is no wish list."""
NOT_ALLOWED = (
    "{destination} is not on the allow-list of this loop. Do without it, or ask the user: the "
    "administrator can allow it in the loop's profile."
)
_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host", "expect",
    }
)  # fmt: skip


class Forbidden(Exception):
    """The destination is not allowed; the message is for the agent."""


class Gatekeeper:
    """What one sandbox may reach, and what it was refused."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._permitted: frozenset[Destination] = frozenset()
        self._refused: dict[Destination, None] = {}

    def allow(self, egress: Egress) -> None:
        self._egress = egress

    def permit(self, destinations: Iterable[Destination]) -> None:
        self._permitted = frozenset(destinations)

    def take_refused(self) -> Sequence[Destination]:
        refused, self._refused = list(self._refused), {}
        return refused

    def check(self, destination: Destination) -> None:
        """Raises :class:`Forbidden` where it is not allowed, and remembers it."""
        allowed = destination in self._permitted or any(
            pattern.matches(destination) for pattern in self._egress.allowed
        )
        if not allowed:
            if len(self._refused) < REFUSED_KEPT:
                self._refused[destination] = None
            raise Forbidden(NOT_ALLOWED.format(destination=destination))


class EgressProxy:
    def __init__(self, gatekeeper: Gatekeeper, dialler: Dialler) -> None:
        self._gatekeeper = gatekeeper
        self._dialler = dialler

    async def connect(self, visitor: Visitor, request: h11.Request, record: Record) -> None:
        """A tunnel for whatever the visitor speaks, TLS as a rule. Its connection ends with it."""
        record.kind = "connect"
        reader, writer = await self._reach(request.target, None, record)
        try:
            early = await visitor.tunnel()
            relay = Relay((visitor.reader, visitor.writer), (reader, writer))
            writer.write(early)
            try:
                await relay.run()
            finally:
                record.bytes_out, record.bytes_in = relay.sent + len(early), relay.received
        finally:
            writer.close()

    async def forward(self, visitor: Visitor, request: h11.Request, record: Record) -> None:
        """A plain request, in the absolute form that proxies are sent."""
        record.kind = "http"
        url = urlsplit(_text(request.target))
        if url.scheme.lower() != "http":
            raise BadDestination("only http:// goes in the clear; use CONNECT for the rest")
        if "@" in url.netloc:
            raise BadDestination("its address holds credentials")
        reader, writer = await self._reach(url.netloc.encode(), HTTP_PORT, record)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        try:
            exchange = _Exchange(visitor, request, (reader, writer))
            assert record.destination is not None
            await exchange.run(target, record.destination)
        finally:
            record.bytes_out, record.bytes_in = visitor.received, visitor.sent
            writer.close()

    async def _reach(self, authority: bytes, port: int | None, record: Record) -> Streams:
        record.destination = parse_destination(_text(authority), port)
        self._gatekeeper.check(record.destination)
        streams = await self._dialler.dial(record.destination)
        record.verdict = "allowed"
        return streams


class _Exchange:
    """One plain request and its answer, over a connection of its own."""

    def __init__(self, visitor: Visitor, request: h11.Request, streams: Streams) -> None:
        self._visitor = visitor
        self._request = request
        self._reader, self._writer = streams
        self._http = h11.Connection(h11.CLIENT)

    async def run(self, target: str, destination: Destination) -> None:
        host = destination.host if destination.port == HTTP_PORT else str(destination)
        headers = [("host", host), *end_to_end(self._request.headers), ("connection", "close")]
        if self._visitor.has_body(self._request) and not _has(headers, "content-length"):
            headers.append(("transfer-encoding", "chunked"))
        self._send(h11.Request(method=self._request.method, target=target, headers=headers))
        async for piece in self._visitor.body():
            self._send(h11.Data(data=piece))
            await self._writer.drain()
        self._send(h11.EndOfMessage())
        try:
            await self._answer()
        except h11.RemoteProtocolError as error:
            raise Unreachable(f"{destination} sent what is no valid HTTP/1.1.") from error

    async def _answer(self) -> None:
        response = await self._event()
        while isinstance(response, h11.InformationalResponse):
            response = await self._event()
        if not isinstance(response, h11.Response):
            raise Gone
        await self._visitor.begin(response.status_code, end_to_end(response.headers))
        while isinstance(event := await self._event(), h11.Data):
            await self._visitor.send(bytes(event.data))
        await self._visitor.end()

    def _send(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(READ_SIZE))
        return event


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that are not of one connection, nor named by ``Connection`` as such."""
    pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    named = {
        word.strip().lower()
        for name, value in pairs
        if name == "connection"
        for word in value.split(",")
    }
    return [(name, value) for name, value in pairs if name not in _HOP_BY_HOP | named]


def _has(headers: Headers, wanted: str) -> bool:
    return any(name == wanted for name, _ in headers)


def _text(target: bytes) -> str:
    try:
        return target.decode("utf-8")
    except UnicodeDecodeError:
        raise BadDestination("it is no UTF-8") from None
