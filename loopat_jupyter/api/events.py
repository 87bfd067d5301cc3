"""``/loops/{id}/events``: watch a loop across its turns."""

from __future__ import annotations

from ..loops.errors import InvalidCursor
from ..loops.models import TurnSnapshot
from .sse import EventStreamHandler, encode


class EventsHandler(EventStreamHandler):
    async def get(self, loop_id: str) -> None:
        await self.owned_loop(loop_id)
        cursor = self._cursor()
        with self.context.broadcaster.subscribe(
            loop_id, raw=self.wants_sdk_messages
        ) as subscription:
            if cursor is None:
                newest, snapshot = await self.context.store.events.snapshot(loop_id)
                await self.stream(
                    subscription, first=_encode_snapshot(snapshot), after=newest, upto=newest
                )
                return
            newest = await self._newest(loop_id, cursor)
            await self.stream(subscription, after=cursor, upto=newest)

    async def _newest(self, loop_id: str, cursor: int) -> int:
        """The newest sequence number. Raises ``InvalidCursor`` where the cursor lies beyond it."""
        newest = await self.context.store.events.last_seq(loop_id)
        if cursor > newest:
            raise InvalidCursor(f"This loop's newest event is {newest}; there is no {cursor} yet.")
        return newest

    def _cursor(self) -> int | None:
        """The cursor of the request; the header wins, as browsers add it when they reconnect."""
        given = self.request.headers.get("Last-Event-ID")
        if given is None:
            given = self.get_query_argument("after_seq", None)
        if given is None:
            return None
        if not (given.isascii() and given.isdigit() and len(given) <= 18):
            raise InvalidCursor("A cursor is the sequence number of an event.")
        return int(given)


def _encode_snapshot(snapshot: TurnSnapshot | None) -> bytes:
    if snapshot is None:
        return b""
    data = {
        "turn_id": snapshot.turn_id,
        "assistant_text_so_far": snapshot.text,
        "pending_choice_id": snapshot.choice and snapshot.choice["choice_id"],
    }
    if snapshot.choice is not None:
        data["choice"] = snapshot.choice
    return encode("snapshot", data)
