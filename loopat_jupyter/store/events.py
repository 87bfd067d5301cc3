"""The event log on disk: one gap-free sequence for each loop."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from ..loops.models import LoopEvent, TurnRecord, TurnSnapshot, to_json
from .database import Database
from .schema import IS_UNFINISHED

PAGE = 500
PAGE_BYTES = 1 << 20
"""A page ends after so many rows, or with the row that passes so many bytes."""


def append_events(
    connection: sqlite3.Connection,
    stored: list[LoopEvent],
    turn: TurnRecord,
    events: Iterable[tuple[str, Mapping[str, Any]]],
) -> int:
    """Append events of one turn to its loop's log, in the caller's transaction; the last ``seq``.

    What was stored is added to ``stored``.
    """
    seq = 0
    for name, data in events:
        text = to_json({"turn_id": turn.turn_id, **data})
        (seq,) = connection.execute(
            "INSERT INTO events (loop_n, seq, turn_n, name, data) VALUES (?1, "
            "(SELECT COALESCE(MAX(seq), 0) + 1 FROM events WHERE loop_n = ?1), ?2, ?3, ?4) "
            "RETURNING seq",
            (turn.loop_n, turn.n, name, text),
        ).fetchone()
        stored.append(LoopEvent(turn.loop_id, seq, turn.turn_id, name, text))
    return seq


class EventReader:
    """Reading the log. Writing happens inside the transactions of the other repositories."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last_seq(self, loop_id: str) -> int:
        """The newest sequence number, 0 for a loop without events."""
        return await self._database.read(lambda connection: last_seq(connection, loop_id))

    async def page(
        self, loop_id: str, after: int, upto: int, *, turn_id: str | None = None
    ) -> list[LoopEvent]:
        """A page of the events with ``after < seq <= upto``, in order (of one turn)."""

        def query(connection: sqlite3.Connection) -> list[LoopEvent]:
            rows = connection.execute(
                """
                SELECT e.seq, t.turn_id, e.name, e.data
                FROM events e JOIN turns t ON t.n = e.turn_n
                WHERE e.loop_n = (SELECT n FROM loops WHERE loop_id = ?)
                  AND e.seq > ? AND e.seq <= ?
                ORDER BY e.seq LIMIT ?
                """
                if turn_id is None
                else """
                SELECT e.seq, t.turn_id, e.name, e.data
                FROM turns t CROSS JOIN events e ON e.turn_n = t.n
                WHERE t.turn_id = ? AND e.seq > ? AND e.seq <= ?
                ORDER BY e.seq LIMIT ?
                """,
                (loop_id if turn_id is None else turn_id, after, upto, PAGE),
            )
            page, size = [], 0
            for row in rows:
                page.append(LoopEvent(loop_id, *row))
                size += len(row[-1])
                if size > PAGE_BYTES:
                    break
            return page

        return await self._database.read(query)

    async def snapshot(self, loop_id: str) -> tuple[int, TurnSnapshot | None]:
        """The newest sequence number and the turn that was under way at it."""
        return await self._database.read(lambda connection: _snapshot(connection, loop_id))


def last_seq(connection: sqlite3.Connection, loop_id: str) -> int:
    (seq,) = connection.execute(
        "SELECT COALESCE(MAX(seq), 0) FROM events "
        "WHERE loop_n = (SELECT n FROM loops WHERE loop_id = ?)",
        (loop_id,),
    ).fetchone()
    return int(seq)


def _snapshot(connection: sqlite3.Connection, loop_id: str) -> tuple[int, TurnSnapshot | None]:
    seq = last_seq(connection, loop_id)
    row = connection.execute(
        # The first condition is implied by the second, and lets SQLite use the partial index.
        f"""
        SELECT t.n, t.turn_id FROM turns t
        WHERE t.loop_n = (SELECT n FROM loops WHERE loop_id = ?)
          AND {IS_UNFINISHED} AND t.state IN ('running', 'waiting')
        ORDER BY t.n LIMIT 1
        """,
        (loop_id,),
    ).fetchone()
    if row is None:
        return seq, None
    turn_n, turn_id = row
    pending = connection.execute(
        "SELECT choice_id, kind, payload FROM choices WHERE turn_n = ? AND outcome IS NULL "
        "ORDER BY created_seq LIMIT 1",
        (turn_n,),
    ).fetchone()
    choice = None
    if pending is not None:
        choice_id, kind, payload = pending
        choice = {
            "turn_id": turn_id,
            "choice_id": choice_id,
            "kind": kind,
            "payload": json.loads(payload),
        }
    return seq, TurnSnapshot(turn_id, turn_text(connection, turn_n), choice)


def turn_text(connection: sqlite3.Connection, turn_n: int) -> str:
    """The visible text of a turn, from its stored deltas."""
    (text,) = connection.execute(
        """
        SELECT group_concat(text, '') FROM (
            SELECT json_extract(data, '$.text') AS text FROM events
            WHERE turn_n = ? AND name = 'assistant_delta' ORDER BY seq
        )
        """,
        (turn_n,),
    ).fetchone()
    return text or ""
