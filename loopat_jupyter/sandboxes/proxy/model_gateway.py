"""The model gateway: the model provider's API for an agent's program inside the sandbox.

It is open only while an engine has opened it. The program has a key that is valid for this sandbox
alone; the :class:`~loopat_jupyter.loops.ports.network.ModelUpstream` adds the real key outside.
Bytes are forwarded as they come, in both directions. A request is cancelled when the gateway is
closed, and when its client disconnects, so that no response is paid for that nobody reads.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets

import h11

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.ports.network import (
    Headers,
    ModelRequestRefused,
    ModelResponse,
    ModelUpstream,
)
from loopat_jupyter.sandboxes.proxy.audit import AuditRecord
from loopat_jupyter.sandboxes.proxy.connection import (
    ClientConnection,
    ClientDisconnected,
    cancel_scope,
)
from loopat_jupyter.sandboxes.proxy.headers import end_to_end

PREFIX = b"/model"
_CREDENTIALS = frozenset({"authorization", "x-api-key", "cookie", "api-key"})

CLOSED = (
    "The model gateway of this sandbox is open only while one of the loop's turns runs on an "
    "engine that works inside it."
)
ENDED = "The turn that the model gateway was open for has ended."
WRONG_KEY = "The key of this request is not the one of this sandbox."
NOT_REACHED = "The model provider could not be reached: {why}"
BROKE_OFF = "The model provider's response broke off: {why}"


class ModelGateway:
    """One sandbox's model gateway."""

    def __init__(self) -> None:
        self.key = f"loopat-{secrets.token_hex(24)}"
        self._upstream: ModelUpstream | None = None
        self._scopes: set[asyncio.Timeout] = set()

    def open(self, upstream: ModelUpstream) -> None:
        self._upstream = upstream

    def close(self) -> None:
        self._upstream = None
        for scope in self._scopes:
            cancel_scope(scope)

    async def forward(
        self, client: ClientConnection, request: h11.Request, record: AuditRecord
    ) -> None:
        """Serve one request; cancelled when the gateway is closed or the client disconnects."""
        record.kind = "model"
        headers = end_to_end(request.headers)
        upstream = self._upstream
        if upstream is None:
            record.reason = CLOSED
            return await client.send_error(403, "model_gateway_closed", CLOSED)
        record.destination = Destination(upstream.host, upstream.port)
        if not self._has_key(headers):
            record.reason = WRONG_KEY
            return await client.send_error(401, "wrong_key", WRONG_KEY)
        scope = asyncio.timeout(None)
        self._scopes.add(scope)
        try:
            async with scope:
                client.cancel_on_disconnect(scope)
                await self._forward_request(client, request, headers, upstream, record)
        except TimeoutError as error:
            if not scope.expired():
                raise
            if client.disconnected:
                raise ClientDisconnected from error
            record.set_interrupted(ENDED)
            await client.send_error(403, "model_gateway_closed", ENDED)
        finally:
            client.cancel_on_disconnect(None)
            self._scopes.discard(scope)
            record.bytes_out, record.bytes_in = client.bytes_received, client.bytes_sent

    def _has_key(self, headers: Headers) -> bool:
        given = [value for name, value in headers if name in _CREDENTIALS]
        given = [value.split(" ", 1)[-1].strip() for value in given]
        return any(hmac.compare_digest(value.encode(), self.key.encode()) for value in given)

    async def _forward_request(
        self,
        client: ClientConnection,
        request: h11.Request,
        headers: Headers,
        upstream: ModelUpstream,
        record: AuditRecord,
    ) -> None:
        target = request.target[len(PREFIX) :].decode("ascii")
        kept = [(name, value) for name, value in headers if name not in _CREDENTIALS]
        body = client.read_body() if client.has_body(request) else None
        try:
            response = await upstream.send_request(request.method.decode(), target, kept, body)
        except ModelRequestRefused as error:
            record.reason = str(error)
            return await client.send_error(403, "model_request_refused", record.reason)
        except OSError as error:
            record.verdict, record.reason = "failed", NOT_REACHED.format(why=error)
            return await client.send_error(502, "provider_unreachable", record.reason)
        record.verdict = "allowed"
        try:
            if body is None:
                async for _ in client.read_body():
                    raise ClientDisconnected  # its headers announced none
            await self._forward_response(client, response)
        except OSError as error:
            record.verdict, record.reason = "failed", BROKE_OFF.format(why=error)
            raise ClientDisconnected from error
        finally:
            await response.close()

    async def _forward_response(self, client: ClientConnection, response: ModelResponse) -> None:
        encoded = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers
        ]
        await client.send_head(response.status, end_to_end(encoded))
        async for piece in response.body():
            await client.send_body(piece)
        await client.end_response()
