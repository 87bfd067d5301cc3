"""Proxy requests of a sandbox: ``CONNECT`` tunnels and plain HTTP, by allow-list.

The destination is parsed once (:mod:`loopat_jupyter.loops.destinations`), and that one spelling is
matched, resolved, dialled and written into the forwarded request. A refusal names its reason, and
destinations that a person could allow are recorded by :mod:`.egress_policy`.
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
    ClientConnection,
    ClientDisconnected,
)
from loopat_jupyter.sandboxes.proxy.dialer import Dialer, Streams, Unreachable
from loopat_jupyter.sandboxes.proxy.egress_policy import EgressPolicy
from loopat_jupyter.sandboxes.proxy.headers import end_to_end, has_header
from loopat_jupyter.sandboxes.proxy.relay import IDLE_TIMEOUT, Relay


class EgressProxy:
    """Forwards the proxy requests of one sandbox."""

    def __init__(self, policy: EgressPolicy, dialer: Dialer) -> None:
        self._policy = policy
        self._dialer = dialer

    async def connect(
        self, client: ClientConnection, request: h11.Request, record: AuditRecord
    ) -> None:
        """Serve a CONNECT request: a tunnel, for TLS as a rule. The connection ends with it."""
        record.kind = "connect"
        if client.has_body(request):
            raise BadDestination("a request for a tunnel has no body")
        destination = self._parse_destination(request.target.decode("ascii"), None, record)
        if not self._policy.allows(destination):
            # Only the wait for a person is cancelled: a client that has closed its own side of a
            # tunnel may still read what comes from the other.
            async with _cancel_on_disconnect(client):
                await self._policy.authorize(destination)
        reader, writer = await self._dial(destination, record)
        try:
            early = await client.accept_tunnel()
            writer.write(early)
            relay = Relay((client.reader, client.writer), (reader, writer))
            try:
                await relay.run()
            finally:
                record.bytes_out, record.bytes_in = relay.sent + len(early), relay.received
        finally:
            writer.transport.abort()  # nothing is buffered: the write buffer's limit is 0

    async def forward(
        self, client: ClientConnection, request: h11.Request, record: AuditRecord
    ) -> None:
        """Serve a plain HTTP request, whose target has the absolute form."""
        record.kind = "http"
        url = _split_url(request.target.decode("ascii"))
        try:
            async with _cancel_on_disconnect(client):
                destination = self._parse_destination(url.netloc, HTTP_PORT, record)
                await self._policy.authorize(destination)
                streams = await self._dial(destination, record)
                target = (url.path or "/") + (f"?{url.query}" if url.query else "")
                try:
                    await _ForwardedRequest(client, request, streams, record).forward(target)
                finally:
                    streams[1].transport.abort()
        finally:
            record.bytes_out, record.bytes_in = client.bytes_received, client.bytes_sent

    def _parse_destination(
        self, authority: str, port: int | None, record: AuditRecord
    ) -> Destination:
        destination = record.destination = parse_destination(authority, port)
        self._dialer.refuse_local(destination)
        return destination

    async def _dial(self, destination: Destination, record: AuditRecord) -> Streams:
        streams = await self._dialer.dial(destination)
        record.verdict = "allowed"
        return streams


@asynccontextmanager
async def _cancel_on_disconnect(client: ClientConnection) -> AsyncIterator[None]:
    """Cancel the body, with ``ClientDisconnected``, when the client closes its connection."""
    scope = asyncio.timeout(None)
    try:
        async with scope:
            client.cancel_on_disconnect(scope)
            yield
    except TimeoutError as error:
        if scope.expired():
            raise ClientDisconnected from error
        raise
    finally:
        client.cancel_on_disconnect(None)


def _split_url(target: str) -> SplitResult:
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
    """One plain HTTP request and its response, over its own connection to the destination."""

    def __init__(
        self, client: ClientConnection, request: h11.Request, streams: Streams, record: AuditRecord
    ) -> None:
        assert record.destination is not None
        self._client = client
        self._request = request
        self._reader, self._writer = streams
        self._destination: Destination = record.destination
        self._http = h11.Connection(h11.CLIENT)

    async def forward(self, target: str) -> None:
        there = self._destination
        host = str(there).removesuffix(f":{HTTP_PORT}")
        headers = [("host", host), *end_to_end(self._request.headers), ("connection", "close")]
        if self._client.has_body(self._request) and not has_header(headers, "content-length"):
            headers.append(("transfer-encoding", "chunked"))
        try:
            await self._send_event(
                h11.Request(method=self._request.method, target=target, headers=headers)
            )
            async for piece in self._client.read_body():
                await self._send_event(h11.Data(data=piece))
            await self._send_event(h11.EndOfMessage())
            await self._forward_response()
        except h11.RemoteProtocolError as error:
            raise Unreachable(f"{there} sent what is no valid HTTP/1.1.") from error
        except OSError as error:
            raise Unreachable(f"The connection to {there} broke off.") from error

    async def _forward_response(self) -> None:
        response = await self._next_event()
        while isinstance(response, h11.InformationalResponse):
            response = await self._next_event()
        if not isinstance(response, h11.Response):
            raise ConnectionResetError
        await self._client.send_head(
            response.status_code, end_to_end(response.headers), response.reason.decode("latin-1")
        )
        while isinstance(event := await self._next_event(), h11.Data):
            await self._client.send_body(bytes(event.data))
        await self._client.end_response()

    async def _send_event(self, event: h11.Event) -> None:
        if data := self._http.send(event):
            self._writer.write(data)
            async with asyncio.timeout(IDLE_TIMEOUT):
                await self._writer.drain()

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(IDLE_TIMEOUT):
                data = await self._reader.read(READ_SIZE)
            self._http.receive_data(data)
        return event
