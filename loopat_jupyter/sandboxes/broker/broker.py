"""One sandbox's broker: takes connections from inside, and sends each where it belongs.

Bounded: so many connections at once, so much of a head, so long a silence. Every connection is a
task of the broker's, and ends with it. Every request leaves one line in the loop's audit.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence

import h11

from loopat_jupyter.loops.destinations import BadDestination, Destination
from loopat_jupyter.loops.errors import SandboxLost
from loopat_jupyter.loops.network import Egress, ModelLoan, ModelUpstream
from loopat_jupyter.sandboxes.broker.dialling import Dialler, Unreachable
from loopat_jupyter.sandboxes.broker.egress import EgressProxy, Forbidden, Gatekeeper
from loopat_jupyter.sandboxes.broker.gateway import PREFIX, Gateway
from loopat_jupyter.sandboxes.broker.record import Audit, Record
from loopat_jupyter.sandboxes.broker.visitor import READ_SIZE, Gone, Visitor

CONNECTIONS = 128
"""At once, of one sandbox; more are closed unanswered."""
ACCEPT_RETRY = 1.0
USER = "loop"

log = logging.getLogger(__name__)


class Broker:
    """Implements :class:`~loopat_jupyter.loops.network.Network`.

    ``shared``: the sandbox shares the host's loopback, so others can reach its door as well, and
    the proxy asks for a key. ``now`` gives the time as the audit writes it.
    """

    def __init__(
        self,
        loop_id: str,
        egress: Egress,
        audit: Audit,
        now: Callable[[], str],
        *,
        shared: bool = False,
        dialler: Dialler | None = None,
    ) -> None:
        self._loop_id = loop_id
        self._audit = audit
        self._now = now
        self._gatekeeper = Gatekeeper(egress)
        self._egress = EgressProxy(self._gatekeeper, dialler or Dialler())
        self._gateway = Gateway()
        self.proxy_key = secrets.token_hex(16) if shared else None
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._server: asyncio.Task[None] | None = None
        self._visits: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ the port

    async def lend_model(self, upstream: ModelUpstream) -> ModelLoan:
        port = await asyncio.shield(self._port)
        self._gateway.lend(upstream)
        return ModelLoan(f"http://127.0.0.1:{port}{PREFIX.decode()}", self._gateway.key)

    def end_loan(self) -> None:
        self._gateway.end_loan()

    def allow(self, egress: Egress) -> None:
        self._gatekeeper.allow(egress)

    def permit(self, destinations: Iterable[Destination]) -> None:
        self._gatekeeper.permit(destinations)

    def take_refused(self) -> Sequence[Destination]:
        return self._gatekeeper.take_refused()

    # ------------------------------------------------------------------ life

    def open(self, door: socket.socket) -> None:
        """Take visitors at this listening socket of the sandbox's loopback, and own it."""
        if self._port.done():
            door.close()
            return
        door.setblocking(False)
        self._server = asyncio.get_running_loop().create_task(self._serve(door))
        # A task that is cancelled before it began never gets to close what it was given.
        self._server.add_done_callback(lambda _: door.close())
        self._port.set_result(door.getsockname()[1])

    def shut(self) -> None:
        """End every connection, and take no more. Idempotent."""
        self._gateway.end_loan()
        if not self._port.done():
            self._port.set_exception(SandboxLost("The sandbox is gone."))
            self._port.exception()  # told to whoever asks; nobody need
        for task in self._tasks():
            task.cancel()

    async def close(self) -> None:
        """The same; when it returns nothing of the broker is left."""
        self.shut()
        if tasks := self._tasks():
            await asyncio.wait(tasks)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [*self._visits, *([self._server] if self._server else [])]

    async def _serve(self, door: socket.socket) -> None:
        with door:  # also keeps the sandbox's network alive, until this ends
            while True:
                connection = await self._accept(door)
                if len(self._visits) >= CONNECTIONS:
                    connection.close()
                    continue
                visit = asyncio.get_running_loop().create_task(self._visit(connection))
                self._visits.add(visit)
                visit.add_done_callback(self._visited)

    async def _accept(self, door: socket.socket) -> socket.socket:
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(door)
            except OSError as error:
                # Out of descriptors, as a rule. Nothing says when there are some again.
                log.warning("The broker of %s cannot take a visitor: %s", self._loop_id, error)
                await asyncio.sleep(ACCEPT_RETRY)
            else:
                return connection

    def _visited(self, visit: asyncio.Task[None]) -> None:
        self._visits.discard(visit)
        if not visit.cancelled() and (error := visit.exception()) is not None:
            log.error("A request of %s failed in the broker", self._loop_id, exc_info=error)

    # ------------------------------------------------------------------ one connection

    async def _visit(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader, writer = await asyncio.open_connection(sock=connection, limit=READ_SIZE)
        visitor = Visitor(reader, writer)
        try:
            while (request := await visitor.request()) is not None:
                await self._request(visitor, request)
        except Gone:
            return
        finally:
            writer.close()

    async def _request(self, visitor: Visitor, request: h11.Request) -> None:
        target = request.target.decode("latin-1")
        record = Record(self._loop_id, self._now(), target)
        try:
            await self._answer(visitor, request, record)
        except BadDestination as error:
            record.reason = f"The request is refused: {error}."
            await visitor.refuse(400, "bad_destination", record.reason)
        except Forbidden as error:
            record.reason = str(error)
            await visitor.refuse(403, "not_allowed", record.reason)
        except Unreachable as error:
            record.verdict = "refused" if error.refused else "failed"
            record.reason = error.message
            await visitor.refuse(403 if error.refused else 502, "unreachable", record.reason)
        except OSError as error:
            record.verdict, record.reason = "failed", "The connection broke off."
            raise Gone from error
        finally:
            await self._audit(record.line())

    async def _answer(self, visitor: Visitor, request: h11.Request, record: Record) -> None:
        target = bytes(request.target)
        if target == PREFIX or target.startswith((PREFIX + b"/", PREFIX + b"?")):
            return await self._gateway.forward(visitor, request, record)
        if not self._may_use_proxy(request):
            record.reason = "The request does not hold the sandbox's proxy key."
            return await visitor.refuse(407, "proxy_key", record.reason)
        if request.method == b"CONNECT":
            return await self._egress.connect(visitor, request, record)
        if target.startswith(b"/"):
            record.reason = "This is the sandbox's way out, a proxy; there is nothing here."
            return await visitor.refuse(404, "not_found", record.reason)
        return await self._egress.forward(visitor, request, record)

    def _may_use_proxy(self, request: h11.Request) -> bool:
        if self.proxy_key is None:
            return True
        wanted = base64.b64encode(f"{USER}:{self.proxy_key}".encode())
        given = [value for name, value in request.headers if name == b"proxy-authorization"]
        return any(hmac.compare_digest(value.removeprefix(b"Basic "), wanted) for value in given)
