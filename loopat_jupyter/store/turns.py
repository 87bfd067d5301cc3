"""Turns on disk: acceptance, the queue, the journal, tool calls, the end.

Each public coroutine is one transaction. The events of a change are stored in the transaction of
the change, so a reader never sees one without the other.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from ..loops.models import (
    AcceptedMessage,
    LoopEvent,
    NewMessage,
    NewToolCall,
    NewToolResult,
    TurnRecord,
    TurnUpdate,
    now,
    to_json,
)
from ..loops.ports.engine import TurnState, TurnUsage
from .database import Database
from .events import append_events
from .idempotency import find_replay, insert_turn
from .schema import IS_UNFINISHED
from .turn_end import finish_turn

_SELECT = """
    SELECT t.turn_id, l.loop_id, t.owner, {content}, t.permission_mode, t.state, t.created_at,
           t.started_at, t.n, t.loop_n, t.engine
    FROM turns t JOIN loops l ON l.n = t.loop_n
"""

_SELECT_TURN = _SELECT.format(content="t.content")
_SELECT_END = _SELECT.format(content="''")
"""For turns that are only to be ended: a queue may hold a gigabyte of messages."""


class TurnRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    # ------------------------------------------------------------------ acceptance

    async def find_replay(
        self, owner: str, loop_id: str, message: NewMessage
    ) -> AcceptedMessage | None:
        """The turn that this very message already made. Raises ``IdempotencyKeyReused``."""
        if message.idempotency_key is None:
            return None
        return await self._database.read(
            lambda connection: find_replay(connection, owner, loop_id, message)
        )

    async def accept(
        self, owner: str, loop_id: str, message: NewMessage, *, queue_limit: int
    ) -> AcceptedMessage:
        """Put the message on disk: idempotency reservation, turn and message in one transaction.

        Raises:
            IdempotencyKeyReused: the key belongs to another loop or body.
            LoopArchived: the loop was archived meanwhile.
            Overloaded: ``queue_limit`` messages wait already.
        """

        def job(connection: sqlite3.Connection, _events: list[LoopEvent]) -> AcceptedMessage:
            replay = find_replay(connection, owner, loop_id, message)
            return replay or insert_turn(connection, owner, loop_id, message, queue_limit)

        return await self._database.write(job)

    # ------------------------------------------------------------------ the queue

    async def next(self, loop_id: str) -> TurnRecord | None:
        """The turn that can run now: the oldest unfinished one, unless it waits for a person."""

        def query(connection: sqlite3.Connection) -> TurnRecord | None:
            turn = oldest_unfinished(connection, loop_id)
            if turn is None or _has_pending_choice(connection, turn.n):
                return None
            return turn

        return await self._database.read(query)

    async def current(self, loop_id: str) -> TurnRecord | None:
        """The oldest unfinished turn, whatever it is doing."""
        return await self._database.read(lambda connection: oldest_unfinished(connection, loop_id))

    async def begin(self, turn: TurnRecord, *, cold_start: bool, engine: str) -> bool:
        """The turn begins: its state and its ``started`` event.

        ``False``, and nothing done, if it is not queued any more: it was cancelled meanwhile.
        """

        def job(connection: sqlite3.Connection, stored: list[LoopEvent]) -> bool:
            if not _run_from(connection, turn, "queued"):
                return False
            data = {"cold_start": cold_start, "content": turn.content}
            seq = append_events(connection, stored, turn, [("started", data)])
            connection.execute(
                "UPDATE turns SET started_at = ?, started_seq = ?, engine = ? WHERE n = ?",
                (now(), seq, engine, turn.n),
            )
            return True

        return await self._database.write(job)

    async def resume(self, turn: TurnRecord) -> bool:
        """A waiting turn runs again. Durable, so that a crash never makes it run twice.

        ``False``, and nothing done, if it is not waiting any more: it was ended meanwhile.
        """
        return await self._database.write(
            lambda connection, _stored: _run_from(connection, turn, "waiting")
        )

    # ------------------------------------------------------------------ while it runs

    async def log(self, turn: TurnRecord, name: str, data: Mapping[str, Any]) -> None:
        """Store one event of the turn."""

        def job(connection: sqlite3.Connection, stored: list[LoopEvent]) -> None:
            append_events(connection, stored, turn, [(name, data)])

        await self._database.write(job, durable=False)

    async def record(self, turn: TurnRecord, update: TurnUpdate) -> None:
        """Store facts of a running turn, and the events of its tool calls, in one transaction."""
        journal = [to_json(entry) for entry in update.journal]
        inputs = [to_json(call.input) for call in update.calls]

        def job(connection: sqlite3.Connection, stored: list[LoopEvent]) -> None:
            _append_journal(connection, turn.n, journal)
            if update.usage is not None:
                _add_usage(connection, turn.n, update.usage)
            for call, tool_input in zip(update.calls, inputs, strict=True):
                if _open_tool_call(connection, turn.n, call, tool_input):
                    append_events(connection, stored, turn, [("tool_call", call.event)])
            for result in update.results:
                if _close_tool_call(connection, turn.n, result):
                    data = {"tool_use_id": result.tool_use_id, "ok": result.ok}
                    append_events(connection, stored, turn, [("tool_result", data)])

        await self._database.write(job, durable=False)

    async def read_journal(self, turn: TurnRecord) -> tuple[dict[str, Any], ...]:
        texts = await self._database.read(lambda connection: journal_texts(connection, turn.n))
        return tuple(json.loads(text) for text in texts)

    # ------------------------------------------------------------------ the end

    async def finish(
        self,
        turn: TurnRecord,
        state: TurnState,
        *,
        code: str | None = None,
        message: str = "",
        only: TurnState | None = None,
    ) -> bool:
        """End the turn with its one terminal event.

        ``False``, and nothing done, if it had ended already or is not in the state ``only``.
        """

        def job(connection: sqlite3.Connection, stored: list[LoopEvent]) -> bool:
            if only is not None:
                (was,) = connection.execute(
                    "SELECT state FROM turns WHERE n = ?", (turn.n,)
                ).fetchone()
                if was != only:
                    return False
            return finish_turn(connection, stored, turn, state, code=code, message=message)

        return await self._database.write(job)

    async def cancel_all(self, loop_id: str) -> None:
        """End every unfinished turn of a loop that is being archived."""

        def job(connection: sqlite3.Connection, stored: list[LoopEvent]) -> None:
            for turn in unfinished_turns(connection, loop_id):
                finish_turn(connection, stored, turn, "interrupted")

        await self._database.write(job)


# ---------------------------------------------------------------------- inside a transaction


def oldest_unfinished(connection: sqlite3.Connection, loop_id: str) -> TurnRecord | None:
    """The loop's current turn, or the next one where none has begun."""
    row = connection.execute(
        f"{_SELECT_TURN} WHERE t.loop_n = (SELECT n FROM loops WHERE loop_id = ?) "
        f"AND {IS_UNFINISHED} ORDER BY t.n LIMIT 1",
        (loop_id,),
    ).fetchone()
    return TurnRecord(*row) if row else None


def read_turn(connection: sqlite3.Connection, turn_n: int) -> TurnRecord:
    """The turn with that row number, which must exist; without its content."""
    row = connection.execute(f"{_SELECT_END} WHERE t.n = ?", (turn_n,)).fetchone()
    return TurnRecord(*row)


def unfinished_turns(connection: sqlite3.Connection, loop_id: str) -> list[TurnRecord]:
    rows = connection.execute(
        f"{_SELECT_END} WHERE t.loop_n = (SELECT n FROM loops WHERE loop_id = ?) "
        f"AND {IS_UNFINISHED} ORDER BY t.n",
        (loop_id,),
    )
    return [TurnRecord(*row) for row in rows]


def running_turns(connection: sqlite3.Connection) -> list[TurnRecord]:
    rows = connection.execute(f"{_SELECT_END} WHERE t.state = 'running' ORDER BY t.n")
    return [TurnRecord(*row) for row in rows]


def unfinished_turns_of_archived(connection: sqlite3.Connection) -> list[TurnRecord]:
    rows = connection.execute(
        f"{_SELECT_END} WHERE l.archived_at IS NOT NULL AND {IS_UNFINISHED} ORDER BY t.n"
    )
    return [TurnRecord(*row) for row in rows]


def _run_from(connection: sqlite3.Connection, turn: TurnRecord, state: TurnState) -> bool:
    cursor = connection.execute(
        "UPDATE turns SET state = 'running' WHERE n = ? AND state = ?", (turn.n, state)
    )
    return cursor.rowcount > 0


def _has_pending_choice(connection: sqlite3.Connection, turn_n: int) -> bool:
    row = connection.execute(
        "SELECT 1 FROM choices WHERE turn_n = ? AND outcome IS NULL LIMIT 1", (turn_n,)
    ).fetchone()
    return row is not None


def journal_texts(connection: sqlite3.Connection, turn_n: int) -> list[str]:
    """A turn's journal, each entry as its JSON text."""
    rows = connection.execute(
        "SELECT entry FROM journal WHERE turn_n = ? ORDER BY position", (turn_n,)
    )
    return [entry for (entry,) in rows]


def _append_journal(connection: sqlite3.Connection, turn_n: int, entries: Sequence[str]) -> None:
    """Append JSON texts to a turn's journal."""
    if not entries:
        return
    (position,) = connection.execute(
        "SELECT COALESCE(MAX(position), 0) FROM journal WHERE turn_n = ?", (turn_n,)
    ).fetchone()
    connection.executemany(
        "INSERT INTO journal (turn_n, position, entry) VALUES (?, ?, ?)",
        [(turn_n, position + i, text) for i, text in enumerate(entries, start=1)],
    )


def _open_tool_call(
    connection: sqlite3.Connection, turn_n: int, call: NewToolCall, tool_input: str
) -> bool:
    """``False`` where the turn has announced a call with that id already."""
    cursor = connection.execute(
        "INSERT INTO tool_calls (turn_n, position, tool_use_id, tool, input) SELECT ?, "
        "(SELECT COUNT(*) FROM tool_calls WHERE turn_n = ?), ?, ?, ? WHERE NOT EXISTS "
        "(SELECT 1 FROM tool_calls WHERE turn_n = ? AND tool_use_id = ?)",
        (turn_n, turn_n, call.tool_use_id, call.tool, tool_input, turn_n, call.tool_use_id),
    )
    return cursor.rowcount > 0


def _close_tool_call(connection: sqlite3.Connection, turn_n: int, result: NewToolResult) -> bool:
    """``False`` where the call has its result already, or was not announced."""
    cursor = connection.execute(
        "UPDATE tool_calls SET ok = ?, result = ? "
        "WHERE turn_n = ? AND tool_use_id = ? AND ok IS NULL",
        (int(result.ok), result.result, turn_n, result.tool_use_id),
    )
    return cursor.rowcount > 0


def _add_usage(connection: sqlite3.Connection, turn_n: int, usage: TurnUsage) -> None:
    total = _usage(connection, turn_n) + usage
    connection.execute(
        "UPDATE turns SET usage = ? WHERE n = ?", (to_json(usage_data(total)), turn_n)
    )


def _usage(connection: sqlite3.Connection, turn_n: int) -> TurnUsage:
    (text,) = connection.execute("SELECT usage FROM turns WHERE n = ?", (turn_n,)).fetchone()
    return TurnUsage(**json.loads(text)) if text else TurnUsage()


def usage_data(usage: TurnUsage) -> dict[str, Any]:
    """The contract's ``usage`` object; ``cost_usd`` is absent where it is not known."""
    data: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }
    if usage.cost_usd is not None:
        data["cost_usd"] = usage.cost_usd
    return data
