"""``/loops/{id}/events``: watch a loop across its turns."""

from __future__ import annotations

from ..loops.errors import InvalidCursor
from ..loops.models import LoopRecord, TurnSnapshot
from .operations import Operation, Parameter, ResponseSpec, operation
from .parameters import INCLUDE, LOOP_ID, STREAM_EXAMPLE
from .sse import CONTENT_TYPE, EventStreamHandler, encode

_CURSOR = "Every event with a greater sequence number, in order, then live; no snapshot."


class EventsHandler(EventStreamHandler):
    @operation(
        Operation(
            "watchLoop",
            "messages",
            "Watch a loop",
            ResponseSpec(
                200,
                "The loop's events, across turns, until the client leaves. Without a cursor it "
                "begins with `snapshot` while a turn is under way.",
                None,
                STREAM_EXAMPLE,
                CONTENT_TYPE,
            ),
            parameters=(
                LOOP_ID,
                Parameter(
                    "after_seq",
                    "query",
                    f"{_CURSOR} 0 replays the whole history.",
                    {"type": "integer", "minimum": 0},
                    0,
                ),
                Parameter(
                    "Last-Event-ID",
                    "header",
                    f"{_CURSOR} Wins over `after_seq`.",
                    {"type": "integer", "minimum": 0},
                ),
                INCLUDE,
            ),
            errors=("invalid_cursor", "invalid_parameter", "not_loop_owner", "loop_not_found"),
        )
    )
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        cursor = self._cursor()
        with self.service.subscribe(loop, raw=self.wants_sdk_messages) as subscription:
            if cursor is None:
                newest, snapshot = await self.service.store.events.snapshot(loop_id)
                await self.stream(subscription, first=_encode(snapshot), after=newest, upto=newest)
                return
            newest = await self._newest(loop, cursor)
            await self.stream(subscription, after=cursor, upto=newest)

    async def _newest(self, loop: LoopRecord, cursor: int) -> int:
        newest = await self.service.store.events.last_seq(loop.loop_id)
        if cursor > newest:
            raise InvalidCursor(f"This loop's newest event is {newest}; there is no {cursor} yet.")
        return newest

    def _cursor(self) -> int | None:
        given = self.request.headers.get("Last-Event-ID")
        if given is None:
            given = self.get_query_argument("after_seq", None)
        if given is None:
            return None
        if not (given.isascii() and given.isdigit() and len(given) <= 18):
            raise InvalidCursor("A cursor is the sequence number of an event.")
        return int(given)


def _encode(snapshot: TurnSnapshot | None) -> bytes:
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
