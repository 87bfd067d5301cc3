"""One sandbox's broker: takes connections from inside, and sends each where it belongs.

Bounded: so many connections at once, so much of a head, so long a silence. Every connection is a
task of the broker's, and ends with it. Every request leaves one line in the loop's audit when it
has ended.
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
from loopat_jupyter.loops.ports.network import Asker, Egress, ModelLoan, ModelUpstream
from loopat_jupyter.sandboxes.proxy.audit_record import Audit, Record
from loopat_jupyter.sandboxes.proxy.audit_writer import Ledger
from loopat_jupyter.sandboxes.proxy.connection import Gone, Visitor
from loopat_jupyter.sandboxes.proxy.connection_limit import Crowd
from loopat_jupyter.sandboxes.proxy.dialer import Dialler, Unreachable
from loopat_jupyter.sandboxes.proxy.egress import EgressProxy
from loopat_jupyter.sandboxes.proxy.egress_policy import Forbidden, Gatekeeper
from loopat_jupyter.sandboxes.proxy.listener import Entrance
from loopat_jupyter.sandboxes.proxy.model_gateway import PREFIX, Gateway

CONNECTIONS = 64
"""At once, of one sandbox; more are closed unanswered. Each may take two of the server's files."""
USER = "loop"
GONE = "The sandbox is gone."
CUT_OFF = "The sandbox ended while this was under way."
LEFT = "The program inside left before the end."

log = logging.getLogger(__name__)


class Broker:
    """Implements :class:`~loopat_jupyter.loops.ports.network.Network`.

    ``shared``: the sandbox shares the host's loopback, so others can reach its door as well, and
    the proxy asks for a key. ``now`` gives the time as the audit writes it. ``crowd`` counts the
    connections of all brokers of this server.
    """

    def __init__(
        self,
        loop_id: str,
        egress: Egress,
        audit: Audit,
        now: Callable[[], str],
        *,
        shared: bool = False,
        crowd: Crowd | None = None,
        dialler: Dialler | None = None,
    ) -> None:
        self._loop_id = loop_id
        self._ledger = Ledger(audit)
        self._now = now
        self._gatekeeper = Gatekeeper(egress)
        self._egress = EgressProxy(self._gatekeeper, dialler or Dialler())
        self._gateway = Gateway()
        self.proxy_key = secrets.token_hex(16) if shared else None
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._crowd = crowd or Crowd()
        self._entrance: Entrance | None = None
        self._server: asyncio.Task[None] | None = None
        self._shut = False
        self._visits: set[asyncio.Task[None]] = set()
        self._held = 0
        """Connections, also those that are being taken over."""

    # ------------------------------------------------------------------ the port

    async def lend_model(self, upstream: ModelUpstream) -> ModelLoan:
        port = await asyncio.shield(self._port)
        if self._shut:
            raise SandboxLost(GONE)
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

    def ask_with(self, asker: Asker | None) -> None:
        self._gatekeeper.ask_with(asker)

    # ------------------------------------------------------------------ life

    def open(self, door: socket.socket, *, ours: bool = False, user: int | None = None) -> None:
        """Take visitors at this listening socket of the sandbox's loopback, and own it.

        ``ours``: it was made in this process, and nobody else has it. ``user``: the only one
        whose connections are taken.
        """
        if self._port.done():
            door.close()
            return
        self._entrance = Entrance(door, self._loop_id, ours=ours, user=user)
        self._port.set_result(self._entrance.port)
        self._server = asyncio.get_running_loop().create_task(self._serve(self._entrance))

    def shut(self) -> None:
        """End every connection, and take no more. Idempotent."""
        if self._shut:
            return
        self._shut = True
        if not self._port.done():
            self._port.set_exception(SandboxLost(GONE))
            self._port.exception()  # told to whoever asks; nobody need
        for task in self._tasks():
            task.cancel()

    async def close(self) -> None:
        """The same; when it returns nothing of the broker is left, and the audit is complete."""
        self.shut()
        if tasks := self._tasks():
            await asyncio.wait(tasks)
        if self._entrance is not None:
            await self._entrance.close()
        await self._ledger.close()

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [*self._visits, *([self._server] if self._server else [])]

    async def _serve(self, entrance: Entrance) -> None:
        """The door is kept open until this ends: it also keeps the sandbox's network alive."""
        try:
            while (connection := await entrance.next()) is not None:
                await self._receive(connection)
        finally:
            entrance.leave()

    async def _receive(self, connection: socket.socket) -> None:
        if self._held >= CONNECTIONS or not self._crowd.enter(self._held):
            connection.close()
            return
        self._held += 1  # at once: others may leave while this one is taken over
        try:
            visitor = await Visitor.receive(connection)
        except BaseException as error:
            connection.close()
            self._give_back()
            if isinstance(error, OSError):  # it left before it was let in
                return
            raise
        visit = asyncio.get_running_loop().create_task(self._visit(visitor))
        self._visits.add(visit)
        visit.add_done_callback(partial(self._visited, visitor))

    def _visited(self, visitor: Visitor, visit: asyncio.Task[None]) -> None:
        visitor.drop()
        self._visits.discard(visit)
        self._give_back()
        if not visit.cancelled() and (error := visit.exception()) is not None:
            log.error("A request of %s failed in the broker", self._loop_id, exc_info=error)

    def _give_back(self) -> None:
        self._held -= 1
        self._crowd.leave(self._held)

    # ------------------------------------------------------------------ one connection

    async def _visit(self, visitor: Visitor) -> None:
        try:
            while (request := await visitor.request()) is not None:
                await self._ledger.room()
                await self._request(visitor, request)
            if visitor.malformed is not None:
                asked, why = visitor.malformed
                self._ledger.note(Record(self._loop_id, self._now(), asked, reason=why).line())
            await visitor.farewell()
        except Gone:
            return

    async def _request(self, visitor: Visitor, request: h11.Request) -> None:
        record = Record(self._loop_id, self._now(), request.target.decode("latin-1"))
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
            code = "not_public" if error.refused else "unreachable"
            await visitor.refuse(403 if error.refused else 502, code, record.reason)
        except asyncio.CancelledError:
            record.break_off(CUT_OFF)
            raise
        except Gone:
            record.break_off(LEFT)
            raise
        except h11.LocalProtocolError as error:
            # What came from the other side cannot be said in an answer to this request.
            record.verdict, record.reason = "failed", "The answer is no valid HTTP/1.1."
            raise Gone from error
        finally:
            self._ledger.note(record.line())

    async def _answer(self, visitor: Visitor, request: h11.Request, record: Record) -> None:
        target = bytes(request.target)
        if target == PREFIX or target.startswith((PREFIX + b"/", PREFIX + b"?")):
            return await self._gateway.forward(visitor, request, record)
        if not self._may_use_proxy(request):
            record.reason = "The request does not hold the sandbox's proxy key."
            challenge = [("proxy-authenticate", 'Basic realm="loopat"')]
            return await visitor.refuse(407, "proxy_key", record.reason, challenge)
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
        keys = [value[6:].strip() for value in given if value[:6].lower() == b"basic "]
        return any(hmac.compare_digest(key, wanted) for key in keys)
