"""Reading turns inside a transaction; those that are only to be ended come without content."""

from __future__ import annotations

import sqlite3

from ..loops.models import TurnRecord

_SELECT = """
    SELECT t.turn_id, l.loop_id, t.owner, {content}, t.permission_mode, t.state, t.created_at,
           t.started_at, t.n, t.loop_n, t.engine
    FROM turns t JOIN loops l ON l.n = t.loop_n
"""

_SELECT_TURN = _SELECT.format(content="t.content")
_SELECT_END = _SELECT.format(content="''")
"""For turns that are only to be ended: a queue may hold a gigabyte of messages."""


def oldest_unfinished(connection: sqlite3.Connection, loop_id: str) -> TurnRecord | None:
    """The turn that a loop is at, or comes to next."""
    row = connection.execute(
        f"{_SELECT_TURN} WHERE t.loop_n = (SELECT n FROM loops WHERE loop_id = ?) "
        "AND t.state IN ('queued', 'running', 'waiting') ORDER BY t.n LIMIT 1",
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
        "AND t.state IN ('queued', 'running', 'waiting') ORDER BY t.n",
        (loop_id,),
    )
    return [TurnRecord(*row) for row in rows]


def running_turns(connection: sqlite3.Connection) -> list[TurnRecord]:
    rows = connection.execute(f"{_SELECT_END} WHERE t.state = 'running' ORDER BY t.n")
    return [TurnRecord(*row) for row in rows]


def unfinished_turns_of_archived(connection: sqlite3.Connection) -> list[TurnRecord]:
    rows = connection.execute(
        f"{_SELECT_END} WHERE l.archived_at IS NOT NULL "
        "AND t.state IN ('queued', 'running', 'waiting') ORDER BY t.n"
    )
    return [TurnRecord(*row) for row in rows]
