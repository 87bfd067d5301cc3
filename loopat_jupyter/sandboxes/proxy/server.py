"""One sandbox's egress proxy: accepts connections from inside and routes their requests.

The number of connections, the size of a request's head and the time without data are bounded. Each
connection is served by a task that the proxy owns and that ends with it. Each request leaves one
entry in the loop's audit when it has ended.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import h11

from loopat_jupyter.loops.destinations import BadDestination, Destination
from loopat_jupyter.loops.errors import SandboxLost
from loopat_jupyter.loops.ports.network import (
    ApprovalCallback,
    Egress,
    GatewayAccess,
    ModelUpstream,
)
from loopat_jupyter.sandboxes.proxy.audit import Audit, AuditRecord, AuditWriter
from loopat_jupyter.sandboxes.proxy.connection import ClientConnection, ClientDisconnected
from loopat_jupyter.sandboxes.proxy.connection_limit import ConnectionLimiter
from loopat_jupyter.sandboxes.proxy.dialer import Dialer, Unreachable
from loopat_jupyter.sandboxes.proxy.egress import EgressProxy
from loopat_jupyter.sandboxes.proxy.egress_policy import DestinationDenied, EgressPolicy
from loopat_jupyter.sandboxes.proxy.listener import Listener
from loopat_jupyter.sandboxes.proxy.model_gateway import PREFIX, ModelGateway

CONNECTIONS_MAX = 64
"""Of one sandbox at the same time; further ones are closed. Each may take two open files."""
PROXY_USER = "loop"
GONE = "The sandbox is gone."
SANDBOX_ENDED = "The sandbox ended while this was under way."
CLIENT_LEFT = "The program inside left before the end."

log = logging.getLogger(__name__)


class EgressProxyServer:
    """Implements :class:`~loopat_jupyter.loops.ports.network.Network`.

    ``shared``: the sandbox shares the host's loopback, so that other users can connect too, and the
    proxy requires a key. ``now`` gives the time as the audit writes it. ``limiter`` counts the
    connections of all egress proxies of this server.
    """

    def __init__(
        self,
        loop_id: str,
        egress: Egress,
        audit: Audit,
        now: Callable[[], str],
        *,
        shared: bool = False,
        limiter: ConnectionLimiter | None = None,
        dialer: Dialer | None = None,
    ) -> None:
        self._loop_id = loop_id
        self._audit = AuditWriter(audit)
        self._now = now
        self._policy = EgressPolicy(egress)
        self._egress = EgressProxy(self._policy, dialer or Dialer())
        self._gateway = ModelGateway()
        self.proxy_key = secrets.token_hex(16) if shared else None
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._limiter = limiter or ConnectionLimiter()
        self._listener: Listener | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._stopped = False
        self._connections: set[asyncio.Task[None]] = set()
        self._held = 0
        """The number of connections, also those that are just being accepted."""

    # ------------------------------------------------------------------ the port

    async def open_model_gateway(self, upstream: ModelUpstream) -> GatewayAccess:
        port = await asyncio.shield(self._port)
        if self._stopped:
            raise SandboxLost(GONE)
        self._gateway.open(upstream)
        return GatewayAccess(f"http://127.0.0.1:{port}{PREFIX.decode()}", self._gateway.key)

    def close_model_gateway(self) -> None:
        self._gateway.close()

    def set_policy(self, egress: Egress) -> None:
        self._policy.set_policy(egress)

    def set_grants(self, destinations: Iterable[Destination]) -> None:
        self._policy.set_grants(destinations)

    def drain_denied(self) -> Sequence[Destination]:
        return self._policy.drain_denied()

    def set_approval_callback(self, callback: ApprovalCallback | None) -> None:
        self._policy.set_approval_callback(callback)

    # ------------------------------------------------------------------ life

    def start(
        self, listener: socket.socket, *, private: bool = False, uid: int | None = None
    ) -> None:
        """Accept connections at this listening socket of the sandbox's loopback, and own it.

        ``private`` and ``uid`` are those of :class:`.listener.Listener`.
        """
        if self._port.done():
            listener.close()
            return
        self._listener = Listener(listener, self._loop_id, private=private, uid=uid)
        self._port.set_result(self._listener.port)
        self._accepting = asyncio.get_running_loop().create_task(
            self._accept_connections(self._listener)
        )

    def stop_listening(self) -> None:
        """End every connection, and accept no more. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        if not self._port.done():
            self._port.set_exception(SandboxLost(GONE))
            self._port.exception()  # marks it as retrieved: perhaps nobody waits for it
        for task in self._tasks():
            task.cancel()

    async def close(self) -> None:
        """Stop, and return when no task, thread or file is left and the audit is complete."""
        self.stop_listening()
        if tasks := self._tasks():
            await asyncio.wait(tasks)
        if self._listener is not None:
            await self._listener.close()
        await self._audit.close()

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [*self._connections, *([self._accepting] if self._accepting else [])]

    async def _accept_connections(self, listener: Listener) -> None:
        """Accept until the listener ends. It stays open until then: while it is open, so is the
        sandbox's network namespace, in which connections may still be served."""
        try:
            while (connection := await listener.accept()) is not None:
                await self._accept(connection)
        finally:
            listener.release()

    async def _accept(self, connection: socket.socket) -> None:
        if self._held >= CONNECTIONS_MAX or not self._limiter.acquire(self._held):
            connection.close()
            return
        self._held += 1  # before the await, during which other connections may end
        try:
            client = await ClientConnection.accept(connection)
        except BaseException as error:
            connection.close()
            self._release_connection()
            if isinstance(error, OSError):  # the client has closed it already
                return
            raise
        task = asyncio.get_running_loop().create_task(self._serve_connection(client))
        self._connections.add(task)
        task.add_done_callback(partial(self._on_connection_end, client))

    def _on_connection_end(self, client: ClientConnection, task: asyncio.Task[None]) -> None:
        client.abort()
        self._connections.discard(task)
        self._release_connection()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A request of %s failed in the egress proxy", self._loop_id, exc_info=error)

    def _release_connection(self) -> None:
        self._held -= 1
        self._limiter.release(self._held)

    # ------------------------------------------------------------------ one connection

    async def _serve_connection(self, client: ClientConnection) -> None:
        try:
            while (request := await client.read_request()) is not None:
                await self._audit.wait_for_room()
                await self._handle_request(client, request)
            if client.malformed is not None:
                target, reason = client.malformed
                self._audit.append(
                    AuditRecord(self._loop_id, self._now(), target, reason=reason).entry()
                )
            await client.lingering_close()
        except ClientDisconnected:
            return

    async def _handle_request(self, client: ClientConnection, request: h11.Request) -> None:
        record = AuditRecord(self._loop_id, self._now(), request.target.decode("latin-1"))
        try:
            await self._route_request(client, request, record)
        except BadDestination as error:
            record.reason = f"The request is refused: {error}."
            await client.send_error(400, "bad_destination", record.reason)
        except DestinationDenied as error:
            record.reason = str(error)
            await client.send_error(403, "not_allowed", record.reason)
        except Unreachable as error:
            record.verdict = "refused" if error.refused else "failed"
            record.reason = error.message
            code = "not_public" if error.refused else "unreachable"
            await client.send_error(403 if error.refused else 502, code, record.reason)
        except asyncio.CancelledError:
            record.set_interrupted(SANDBOX_ENDED)
            raise
        except ClientDisconnected:
            record.set_interrupted(CLIENT_LEFT)
            raise
        except h11.LocalProtocolError as error:
            # What the destination sent cannot be expressed as a response to this request.
            record.verdict, record.reason = "failed", "The response is no valid HTTP/1.1."
            raise ClientDisconnected from error
        finally:
            self._audit.append(record.entry())

    async def _route_request(
        self, client: ClientConnection, request: h11.Request, record: AuditRecord
    ) -> None:
        target = bytes(request.target)
        if target == PREFIX or target.startswith((PREFIX + b"/", PREFIX + b"?")):
            return await self._gateway.forward(client, request, record)
        if not self._may_use_proxy(request):
            record.reason = "The request does not hold the sandbox's proxy key."
            challenge = [("proxy-authenticate", 'Basic realm="loopat"')]
            return await client.send_error(407, "proxy_key", record.reason, challenge)
        if request.method == b"CONNECT":
            return await self._egress.connect(client, request, record)
        if target.startswith(b"/"):
            record.reason = "This is the sandbox's egress proxy; there is nothing here."
            return await client.send_error(404, "not_found", record.reason)
        return await self._egress.forward(client, request, record)

    def _may_use_proxy(self, request: h11.Request) -> bool:
        if self.proxy_key is None:
            return True
        wanted = base64.b64encode(f"{PROXY_USER}:{self.proxy_key}".encode())
        given = [value for name, value in request.headers if name == b"proxy-authorization"]
        keys = [value[6:].strip() for value in given if value[:6].lower() == b"basic "]
        return any(hmac.compare_digest(key, wanted) for key in keys)
