"""Requests of a sandbox to the world: ``CONNECT`` tunnels and plain HTTP, by allow-list.

The destination is parsed once (:mod:`loopat_jupyter.loops.destinations`) and that spelling is
matched, resolved, dialled and written into the request that goes out. What is refused is told
why, and what a person could permit is remembered, so that one can be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, urlsplit

import h11

from loopat_jupyter.loops.destinations import (
    HTTP_PORT,
    BadDestination,
    Destination,
    parse_destination,
)
from loopat_jupyter.sandboxes.proxy.audit import AuditRecord
from loopat_jupyter.sandboxes.proxy.connection import (
    READ_SIZE,
    CancelScope,
    ClientConnection,
    ClientDisconnected,
)
from loopat_jupyter.sandboxes.proxy.dialer import Dialer, Streams, Unreachable
from loopat_jupyter.sandboxes.proxy.egress_policy import EgressPolicy
from loopat_jupyter.sandboxes.proxy.headers import end_to_end, has
from loopat_jupyter.sandboxes.proxy.relay import SILENCE, Relay


class EgressProxy:
    def __init__(self, gatekeeper: EgressPolicy, dialler: Dialer) -> None:
        self._gatekeeper = gatekeeper
        self._dialler = dialler

    async def connect(
        self, visitor: ClientConnection, request: h11.Request, record: AuditRecord
    ) -> None:
        """A tunnel for whatever the visitor speaks, TLS as a rule. Its connection ends with it."""
        record.kind = "connect"
        if visitor.has_body(request):
            raise BadDestination("a request for a tunnel has no body")
        destination = self._named(request.target.decode("ascii"), None, record)
        if not self._gatekeeper.allows(destination):
            # Only a wait for a person is given up: who has closed its own side of a tunnel may
            # still hear what the other one says.
            async with _cancel_on_disconnect(visitor):
                await self._gatekeeper.authorize(destination)
        reader, writer = await self._dial(destination, record)
        try:
            early = await visitor.tunnel()
            writer.write(early)
            relay = Relay((visitor.reader, visitor.writer), (reader, writer))
            try:
                await relay.run()
            finally:
                record.bytes_out, record.bytes_in = relay.sent + len(early), relay.received
        finally:
            writer.transport.abort()  # what was to be flushed is; see dialling

    async def forward(
        self, visitor: ClientConnection, request: h11.Request, record: AuditRecord
    ) -> None:
        """A plain request, in the absolute form that proxies are sent."""
        record.kind = "http"
        url = _split(request.target.decode("ascii"))
        try:
            async with _cancel_on_disconnect(visitor):
                destination = self._named(url.netloc, HTTP_PORT, record)
                await self._gatekeeper.authorize(destination)
                streams = await self._dial(destination, record)
                target = (url.path or "/") + (f"?{url.query}" if url.query else "")
                try:
                    await _ForwardedRequest(visitor, request, streams, record).run(target)
                finally:
                    streams[1].transport.abort()
        finally:
            record.bytes_out, record.bytes_in = visitor.received, visitor.sent

    def _named(self, authority: str, port: int | None, record: AuditRecord) -> Destination:
        destination = record.destination = parse_destination(authority, port)
        self._dialler.refuse_local(destination)
        return destination

    async def _dial(self, destination: Destination, record: AuditRecord) -> Streams:
        streams = await self._dialler.dial(destination)
        record.verdict = "allowed"
        return streams


@asynccontextmanager
async def _cancel_on_disconnect(visitor: ClientConnection) -> AsyncIterator[None]:
    """Cancel the body, with ``ClientDisconnected``, when the client closes its connection."""
    errand = CancelScope()
    try:
        async with errand:
            visitor.cancel_on_disconnect(errand)
            yield
    except TimeoutError as error:
        if errand.ended:
            raise ClientDisconnected from error
        raise
    finally:
        visitor.cancel_on_disconnect(None)


def _split(target: str) -> SplitResult:
    try:
        url = urlsplit(target)
    except ValueError:
        raise BadDestination("it is no valid URL") from None
    if url.scheme != "http":
        raise BadDestination("only http:// goes in the clear; use CONNECT for the rest")
    if "@" in url.netloc:
        raise BadDestination("its address holds credentials")
    return url


class _ForwardedRequest:
    """One plain request and its answer, over a connection of its own."""

    def __init__(
        self, visitor: ClientConnection, request: h11.Request, streams: Streams, record: AuditRecord
    ) -> None:
        assert record.destination is not None
        self._visitor = visitor
        self._request = request
        self._reader, self._writer = streams
        self._destination: Destination = record.destination
        self._http = h11.Connection(h11.CLIENT)

    async def run(self, target: str) -> None:
        there = self._destination
        host = str(there).removesuffix(f":{HTTP_PORT}")
        headers = [("host", host), *end_to_end(self._request.headers), ("connection", "close")]
        if self._visitor.has_body(self._request) and not has(headers, "content-length"):
            headers.append(("transfer-encoding", "chunked"))
        try:
            await self._send(
                h11.Request(method=self._request.method, target=target, headers=headers)
            )
            async for piece in self._visitor.body():
                await self._send(h11.Data(data=piece))
            await self._send(h11.EndOfMessage())
            await self._answer()
        except h11.RemoteProtocolError as error:
            raise Unreachable(f"{there} sent what is no valid HTTP/1.1.") from error
        except OSError as error:
            raise Unreachable(f"The connection to {there} broke off.") from error

    async def _answer(self) -> None:
        response = await self._event()
        while isinstance(response, h11.InformationalResponse):
            response = await self._event()
        if not isinstance(response, h11.Response):
            raise ConnectionResetError
        await self._visitor.begin(
            response.status_code, end_to_end(response.headers), response.reason.decode("latin-1")
        )
        while isinstance(event := await self._event(), h11.Data):
            await self._visitor.send(bytes(event.data))
        await self._visitor.end()

    async def _send(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._writer.write(data)
            async with asyncio.timeout(SILENCE):
                await self._writer.drain()

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(SILENCE):
                data = await self._reader.read(READ_SIZE)
            self._http.receive_data(data)
        return event
