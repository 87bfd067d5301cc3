"""``/loops/{id}/messages``: send a message and stream its turn; the conversation so far."""

from __future__ import annotations

from ..loops.errors import IdempotencyKeyTooLong, InvalidRequest, LoopArchived
from ..loops.models import AcceptedMessage, LoopRecord, MessageRow, NewMessage
from .handler import LoopatHandler
from .operations import Operation, Parameter, ResponseSpec, operation
from .parameters import IDEMPOTENCY_KEY, INCLUDE, LIMIT, LOOP_ID, STREAM_EXAMPLE
from .schemas import (
    KEY_LIMIT,
    MessageList,
    MessagesQuery,
    MessageView,
    SendMessage,
    ToolCallView,
    UsageView,
)
from .sse import CONTENT_TYPE, EventStreamHandler, encode


class MessagesHandler(EventStreamHandler):
    @operation(
        Operation(
            "sendMessage",
            "messages",
            "Send a message and stream its turn",
            ResponseSpec(
                200,
                "The turn's events, to its end. The message is on disk before the first byte; "
                "closing the connection does not stop the turn.",
                None,
                STREAM_EXAMPLE,
                CONTENT_TYPE,
            ),
            parameters=(LOOP_ID, IDEMPOTENCY_KEY, INCLUDE),
            body=SendMessage,
            body_example={"content": "Count the rows of every CSV file in data."},
            errors=(
                "invalid_json",
                "invalid_parameter",
                "missing_content",
                "content_too_large",
                "idempotency_key_too_long",
                "loop_archived",
                "not_loop_owner",
                "loop_not_found",
                "idempotency_key_reused",
                "overloaded",
            ),
        )
    )
    async def post(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        message = await self._message(loop)
        with self.service.subscribe(loop, raw=self.wants_sdk_messages) as subscription:
            accepted = await self._accept(loop, message)
            upto = await self.service.store.events.last_seq(loop_id) if accepted.replayed else 0
            await self.stream(
                subscription,
                first=self._queued(accepted),
                upto=upto,
                turn_id=accepted.turn_id,
            )

    async def _accept(self, loop: LoopRecord, message: NewMessage) -> AcceptedMessage:
        if not loop.archived:
            return await self.service.send(self.caller.name, loop, message)
        # What was accepted before the loop was archived can still be replayed.
        replay = await self.service.find_replay(self.caller.name, loop, message)
        if replay is None:
            raise _archived()
        return replay

    async def _message(self, loop: LoopRecord) -> NewMessage:
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

    @staticmethod
    def _queued(accepted: AcceptedMessage) -> bytes:
        if accepted.ahead and accepted.state == "queued":
            return encode("queued", {"position": accepted.ahead})
        return b""

    @operation(
        Operation(
            "listMessages",
            "messages",
            "Read the conversation so far, oldest first",
            ResponseSpec(
                200,
                "One page of rows: one `user` row per accepted message, one `assistant` row per "
                "turn that began.",
                MessageList,
                {
                    "data": [
                        {
                            "id": "msg_00112233445566778899_user",
                            "turn_id": "turn_00112233445566778899",
                            "role": "user",
                            "content": "Hello",
                            "created_at": "2026-01-31T12:00:00.000000Z",
                            "status": "done",
                            "tool_calls": [],
                            "usage": None,
                        }
                    ],
                    "has_more": True,
                    "last_id": "msg_00112233445566778899_user",
                },
            ),
            parameters=(
                LOOP_ID,
                LIMIT,
                Parameter(
                    "after",
                    "query",
                    "The `last_id` of a page.",
                    {"type": "string", "maxLength": 200},
                ),
                Parameter(
                    "order",
                    "query",
                    "`desc`: newest first; `after` then goes back in time.",
                    {"type": "string", "enum": ["asc", "desc"], "default": "asc"},
                    "desc",
                ),
            ),
            errors=("invalid_parameter", "invalid_cursor", "not_loop_owner", "loop_not_found"),
        )
    )
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        query = self.read_query(MessagesQuery)
        newest_first = query.order == "desc"
        page = await self.service.messages(
            loop, limit=query.limit, after=query.after, newest_first=newest_first
        )
        data = [_message_view(row, with_seq=newest_first) for row in page.rows]
        last_id = data[-1].id if data else None
        body = MessageList(data=data, has_more=page.has_more, last_id=last_id)
        await self.send_json_in_thread(200, body)


def _archived() -> LoopArchived:
    return LoopArchived("This loop is archived and takes no messages. Create a new one.")


def _message_view(row: MessageRow, *, with_seq: bool) -> MessageView:
    numbered = {"seq": row.seq} if with_seq else {}
    return MessageView(
        id=row.id,
        turn_id=row.turn_id,
        role=row.role,
        content=row.content,
        created_at=row.created_at,
        status=row.status,
        tool_calls=[
            ToolCallView(
                tool_use_id=call.tool_use_id,
                tool=call.tool,
                input=call.input,
                ok=call.ok,
                result=call.result,
            )
            for call in row.tool_calls
        ],
        usage=UsageView(**row.usage) if row.usage else None,
        **numbered,
    )


class InterruptHandler(LoopatHandler):
    @operation(
        Operation(
            "interruptLoop",
            "messages",
            "Interrupt the running turn",
            ResponseSpec(202, "The turn has ended, or there was none. Queued turns run next."),
            description="Kills the tool process the turn waits for; background processes live on.",
            parameters=(LOOP_ID,),
            errors=("not_loop_owner", "loop_not_found"),
        )
    )
    async def post(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        self.refuse_oversized()
        await self.service.interrupt(loop)
        self.send_json(202)
