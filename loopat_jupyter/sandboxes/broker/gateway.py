"""The model gateway: what an agent's own program inside asks its model through.

Open only while an engine lends a model. The program knows a key that is good for this sandbox
alone; the real one is added by the :class:`~loopat_jupyter.loops.network.ModelUpstream` outside.
Bytes are passed on as they come, in both directions.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets

import h11

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.network import Headers, ModelAnswer, ModelRefused, ModelUpstream
from loopat_jupyter.sandboxes.broker.egress import end_to_end
from loopat_jupyter.sandboxes.broker.record import Record
from loopat_jupyter.sandboxes.broker.visitor import Visitor

PREFIX = b"/model"
_CREDENTIALS = frozenset({"authorization", "x-api-key", "cookie", "api-key"})

CLOSED = (
    "The model is lent to this sandbox only while one of the loop's turns runs on an engine that "
    "works inside it."
)
WRONG_KEY = "The key of this request is not the one of this sandbox."
NOT_REACHED = "The model provider could not be reached: {why}"


class Gateway:
    """One sandbox's door to the lent model."""

    def __init__(self) -> None:
        self.key = f"loopat-{secrets.token_hex(24)}"
        self._upstream: ModelUpstream | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    def lend(self, upstream: ModelUpstream) -> None:
        self._upstream = upstream

    def end_loan(self) -> None:
        self._upstream = None
        for task in self._under_way:
            task.cancel()

    async def forward(self, visitor: Visitor, request: h11.Request, record: Record) -> None:
        """Answer one request. Cancelled when the loan ends."""
        record.kind = "model"
        headers = end_to_end(request.headers)
        upstream = self._upstream
        if upstream is None:
            record.reason = CLOSED
            return await visitor.refuse(403, "model_not_lent", CLOSED)
        record.destination = Destination(upstream.host, upstream.port)
        if not self._knows_key(headers):
            record.reason = WRONG_KEY
            return await visitor.refuse(401, "wrong_key", WRONG_KEY)
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            await self._pass_on(visitor, request, headers, upstream, record)
        finally:
            self._under_way.discard(task)
            record.bytes_out, record.bytes_in = visitor.received, visitor.sent

    def _knows_key(self, headers: Headers) -> bool:
        given = [value.removeprefix("Bearer ") for name, value in headers if name in _CREDENTIALS]
        return any(hmac.compare_digest(value.encode(), self.key.encode()) for value in given)

    async def _pass_on(
        self,
        visitor: Visitor,
        request: h11.Request,
        headers: Headers,
        upstream: ModelUpstream,
        record: Record,
    ) -> None:
        target = request.target[len(PREFIX) :].decode("ascii")
        kept = [(name, value) for name, value in headers if name not in _CREDENTIALS]
        body = visitor.body() if visitor.has_body(request) else None
        try:
            answer = await upstream.ask(request.method.decode(), target, kept, body)
        except ModelRefused as error:
            record.reason = str(error)
            return await visitor.refuse(403, "not_lent", record.reason)
        except OSError as error:
            record.verdict, record.reason = "failed", NOT_REACHED.format(why=error)
            return await visitor.refuse(502, "provider_unreachable", record.reason)
        record.verdict = "allowed"
        try:
            await self._answer(visitor, answer)
        finally:
            await answer.close()

    async def _answer(self, visitor: Visitor, answer: ModelAnswer) -> None:
        encoded = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers
        ]
        await visitor.begin(answer.status, end_to_end(encoded))
        async for piece in answer.body():
            await visitor.send(piece)
        await visitor.end()
