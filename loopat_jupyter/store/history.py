"""A loop's conversation, as people read it and as the next turn's engine needs it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from ..loops.errors import InvalidCursor
from ..loops.models import MessageListing, MessageRow, ToolCallRow
from ..loops.ports.engine import PastTurn
from .database import Database
from .events import turn_text
from .turns import journal_texts

PAGE_BYTES = 8 << 20
"""A page ends early, with ``has_more``, once it holds so much."""

PAST_TURN_BYTES = 1 << 20
"""Characters of messages, texts and journals after which a page of past turns ends."""

RESULT_LIMIT = 10_000
"""Bytes of a tool's result in the history (contract, Watching)."""

_STATUS = (
    "CASE WHEN state = 'running' AND EXISTS (SELECT 1 FROM choices c WHERE c.turn_n = turns.n "
    "AND c.outcome IS NULL) THEN 'waiting' ELSE state END"
)
"""A turn's state as people see it. A turn of an engine without durable choices stays ``running`` on
disk while it waits for a person, so that it ends with the server; people see it ``waiting``."""

Cursor = tuple[int, str]
"""A turn's number and the role of its row."""


class HistoryRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def messages(
        self, loop_id: str, *, limit: int, after: str | None, newest_first: bool = False
    ) -> MessageListing:
        """One page of the conversation, beyond the row ``after`` in the order asked for.

        Raises ``InvalidCursor``.
        """
        rows_from = _rows_before if newest_first else _rows_from
        return await self._database.read(
            lambda connection: _messages(connection, loop_id, limit, after, rows_from)
        )

    async def past_turns(self, loop_id: str, *, before: str, limit: int) -> list[PastTurn]:
        """At most ``limit`` turns of the loop that began before the turn ``before``, newest first.

        Fewer where they hold more than :data:`PAST_TURN_BYTES` together; none where there are none.
        """
        return await self._database.read(
            lambda connection: _past_turns(connection, loop_id, before, limit)
        )

    async def count_turns_before(self, loop_id: str, turn_id: str) -> int:
        """How many turns of the loop began before the turn ``turn_id``."""

        def query(connection: sqlite3.Connection) -> int:
            (count,) = connection.execute(
                f"SELECT COUNT(*) FROM turns WHERE {_BEGAN_BEFORE}", (loop_id, turn_id)
            ).fetchone()
            return int(count)

        return await self._database.read(query)


_BEGAN_BEFORE = (
    "loop_n = (SELECT n FROM loops WHERE loop_id = ?) "
    "AND n < (SELECT n FROM turns WHERE turn_id = ?) AND started_seq IS NOT NULL"
)


def _past_turns(
    connection: sqlite3.Connection, loop_id: str, before: str, limit: int
) -> list[PastTurn]:
    rows = connection.execute(
        "SELECT n, turn_id, content, state, error_code, text, engine FROM turns "
        f"WHERE {_BEGAN_BEFORE} ORDER BY n DESC LIMIT ?",
        (loop_id, before, limit),
    )
    page: list[PastTurn] = []
    size = 0
    for n, turn_id, content, state, error_code, text, engine in rows:
        entries = journal_texts(connection, n)
        page.append(
            PastTurn(
                turn_id=turn_id,
                content=content,
                state=state,
                error_code=error_code,
                journal=tuple(json.loads(entry) for entry in entries),
                text=text or "",
                engine=engine or "builtin",
            )
        )
        size += len(content) + len(text or "") + sum(map(len, entries))
        if size > PAST_TURN_BYTES:
            break
    return page


def _row_id(role: str, turn_id: str) -> str:
    return f"msg_{turn_id.removeprefix('turn_')}_{role}"


def _cursor(connection: sqlite3.Connection, loop_id: str, after: str) -> Cursor:
    stem, _, role = after.removeprefix("msg_").rpartition("_")
    row = connection.execute(
        "SELECT t.n, t.started_seq FROM turns t JOIN loops l ON l.n = t.loop_n "
        "WHERE t.turn_id = ? AND l.loop_id = ?",
        (f"turn_{stem}", loop_id),
    ).fetchone()
    known = row is not None and after == _row_id(role, f"turn_{stem}")
    if not known or role not in ("user", "assistant") or (role == "assistant" and row[1] is None):
        raise InvalidCursor(f"There is no message {after!r} in this loop to page from.")
    return int(row[0]), role


RowsFrom = Callable[[sqlite3.Connection, str, Cursor | None], Iterator[MessageRow]]


def _messages(
    connection: sqlite3.Connection,
    loop_id: str,
    limit: int,
    after: str | None,
    rows_from: RowsFrom,
) -> MessageListing:
    cursor = None if after is None else _cursor(connection, loop_id, after)
    rows: list[MessageRow] = []
    size = 0
    for row in rows_from(connection, loop_id, cursor):
        if len(rows) == limit or size > PAGE_BYTES:
            return MessageListing(rows, has_more=True)
        rows.append(row)
        size += len(row.content) + sum(call.size for call in row.tool_calls)
    return MessageListing(rows, has_more=False)


NO_TURN_IS_LATER = (1 << 63) - 1

_TURNS = (
    f"SELECT n, turn_id, content, {_STATUS}, created_at, started_at, started_seq, text, usage "
    "FROM turns WHERE loop_n = (SELECT n FROM loops WHERE loop_id = ?) "
)


def _rows_from(
    connection: sqlite3.Connection, loop_id: str, cursor: Cursor | None
) -> Iterator[MessageRow]:
    """The rows after the cursor's, oldest first."""
    turn_n, role = cursor or (0, "assistant")
    for turn in connection.execute(_TURNS + "AND n >= ? ORDER BY n", (loop_id, turn_n)):
        n, started_at = turn[0], turn[5]
        if n != turn_n:
            yield _user_row(turn)
        if started_at is not None and not (n == turn_n and role == "assistant"):
            yield _assistant_row(connection, turn)


def _rows_before(
    connection: sqlite3.Connection, loop_id: str, cursor: Cursor | None
) -> Iterator[MessageRow]:
    """The rows before the cursor's, newest first."""
    turn_n, role = cursor or (None, "")
    last = NO_TURN_IS_LATER if turn_n is None else turn_n
    for turn in connection.execute(_TURNS + "AND n <= ? ORDER BY n DESC", (loop_id, last)):
        n, started_at = turn[0], turn[5]
        if started_at is not None and n != turn_n:
            yield _assistant_row(connection, turn)
        if not (n == turn_n and role == "user"):
            yield _user_row(turn)


def _user_row(turn: tuple[Any, ...]) -> MessageRow:
    _, turn_id, content, state, created_at, _, seq, *_ = turn
    row_id = _row_id("user", turn_id)
    return MessageRow(row_id, turn_id, "user", content, created_at, state, seq=seq)


def _assistant_row(connection: sqlite3.Connection, turn: tuple[Any, ...]) -> MessageRow:
    n, turn_id, _, state, _, started_at, seq, text, usage = turn
    return MessageRow(
        _row_id("assistant", turn_id),
        turn_id,
        "assistant",
        turn_text(connection, n) if text is None else text,
        started_at,
        state,
        tool_calls(connection, n),
        json.loads(usage) if usage else None,
        seq,
    )


def tool_calls(connection: sqlite3.Connection, turn_n: int) -> tuple[ToolCallRow, ...]:
    rows = connection.execute(
        "SELECT tool_use_id, tool, input, ok, result FROM tool_calls WHERE turn_n = ? "
        "ORDER BY position",
        (turn_n,),
    )
    return tuple(_tool_call(row) for row in rows)


def _tool_call(row: tuple[Any, ...]) -> ToolCallRow:
    tool_use_id, tool, tool_input, ok, result = row
    result = truncate_bytes(result)
    return ToolCallRow(
        tool_use_id,
        tool,
        json.loads(tool_input),
        None if ok is None else bool(ok),
        result,
        size=len(tool_input) + len(result),
    )


def truncate_bytes(text: str, limit: int = RESULT_LIMIT) -> str:
    """``text`` in at most ``limit`` bytes of UTF-8: its head and tail, and what was left out."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    mark = f"\n[… {len(raw) - limit} bytes and more left out …]\n"
    keep = (limit - len(mark.encode())) // 2
    return raw[:keep].decode(errors="ignore") + mark + raw[-keep:].decode(errors="ignore")
