"""``/loops/{id}/messages``: send a message and stream its turn; the conversation so far."""

from __future__ import annotations

from ..loops.errors import IdempotencyKeyTooLong, InvalidRequest, LoopArchived
from ..loops.models import AcceptedMessage, LoopRecord, NewMessage
from .handler import LoopatHandler
from .schemas import (
    KEY_LIMIT,
    MessageList,
    MessagesQuery,
    MessageView,
    SendMessage,
)
from .sse import EventStreamHandler, encode


class MessagesHandler(EventStreamHandler):
    async def post(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        message = await self._read_message(loop)
        with self.context.broadcaster.subscribe(
            loop_id, raw=self.wants_sdk_messages
        ) as subscription:
            accepted = await self._accept(loop, message)
            upto = await self.context.store.events.last_seq(loop_id) if accepted.replayed else 0
            await self.stream(
                subscription,
                first=_encode_queued(accepted),
                upto=upto,
                turn_id=accepted.turn_id,
            )

    async def _accept(self, loop: LoopRecord, message: NewMessage) -> AcceptedMessage:
        if not loop.archived:
            return await self.service.accept_message(self.caller.name, loop, message)
        # What was accepted before the loop was archived can still be replayed.
        replay = await self.context.store.turns.find_replay(self.caller.name, loop.loop_id, message)
        if replay is None:
            raise _archived()
        return replay

    async def _read_message(self, loop: LoopRecord) -> NewMessage:
        try:
            key = self._idempotency_key()
            body = await self.read_body(SendMessage)
            return NewMessage(body.required_content(), body.permission_mode, key)
        except InvalidRequest as error:
            if loop.archived:  # state is checked before the body
                raise _archived() from error
            raise

    def _idempotency_key(self) -> str | None:
        # Tornado reads headers as Latin-1; clients write UTF-8 where they write more than ASCII.
        sent = self.request.headers.get("Idempotency-Key", "")
        key = sent.encode("latin-1").decode("utf-8", "replace")
        if len(key) > KEY_LIMIT:
            raise IdempotencyKeyTooLong(f"An Idempotency-Key has at most {KEY_LIMIT} characters.")
        return sent or None

    async def get(self, loop_id: str) -> None:
        await self.owned_loop(loop_id)
        query = self.read_query(MessagesQuery)
        newest_first = query.order == "desc"
        page = await self.context.store.history.messages(
            loop_id, limit=query.limit, after=query.after, newest_first=newest_first
        )
        data = [MessageView.model_validate(row) for row in page.rows]
        last_id = data[-1].id if data else None
        body = MessageList(data=data, has_more=page.has_more, last_id=last_id)
        # Rows have their `seq` with order=desc alone (contract, Watching, and its addition).
        without = None if newest_first else {"data": {"__all__": {"seq"}}}
        await self.send_json_in_thread(200, body, exclude=without)


def _archived() -> LoopArchived:
    return LoopArchived("This loop is archived and takes no messages. Create a new one.")


def _encode_queued(accepted: AcceptedMessage) -> bytes:
    if accepted.ahead and accepted.state == "queued":
        return encode("queued", {"position": accepted.ahead})
    return b""


class InterruptHandler(LoopatHandler):
    async def post(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        self.refuse_oversized()
        await self.service.interrupt(loop)
        self.send_json(202)
