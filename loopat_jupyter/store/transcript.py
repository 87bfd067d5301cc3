"""Reading a loop's turns whole, one after the other, for its transcript.

Everything is as it was when the loop's newest event was the index's ``seq``: of a turn that runs
meanwhile, later events are left out.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from ..loops.models import ChoiceRecord
from ..loops.ports.engine import TurnState
from ..loops.transcript_source import ChoiceRow, StoredTurn, TranscriptIndex
from .database import Database
from .events import last_seq
from .history import tool_calls

DELTAS = frozenset({"assistant_delta", "thinking_delta"})


class TranscriptReader:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def index(self, loop_id: str, *, last: int | None) -> TranscriptIndex:
        """The loop's turns; of many the ``last`` newest."""

        def query(connection: sqlite3.Connection) -> TranscriptIndex:
            rows = connection.execute(
                "SELECT turn_id FROM turns WHERE loop_n = (SELECT n FROM loops WHERE loop_id = ?) "
                "ORDER BY n DESC LIMIT ?",
                (loop_id, -1 if last is None else last),
            ).fetchall()
            turn_ids = tuple(turn_id for (turn_id,) in reversed(rows))
            return TranscriptIndex(last_seq(connection, loop_id), turn_ids)

        return await self._database.read(query)

    async def turn(self, loop_id: str, turn_id: str, upto: int) -> StoredTurn | None:
        """The turn with its events up to ``upto``; ``None`` where the loop has no such turn."""
        return await self._database.read(
            lambda connection: _turn(connection, loop_id, turn_id, upto)
        )


def _turn(
    connection: sqlite3.Connection, loop_id: str, turn_id: str, upto: int
) -> StoredTurn | None:
    row = connection.execute(
        "SELECT t.n, t.state, t.created_at, t.started_at, t.ended_at, t.engine, t.content, "
        "t.usage, t.started_seq, t.ended_seq FROM turns t JOIN loops l ON l.n = t.loop_n "
        "WHERE t.turn_id = ? AND l.loop_id = ?",
        (turn_id, loop_id),
    ).fetchone()
    if row is None:
        return None
    n, state, created_at, started_at, ended_at, engine, content, usage, started, ended = row
    is_begun = started is not None and started <= upto
    is_ended = ended is not None and ended <= upto
    events = connection.execute(
        "SELECT name, data FROM events WHERE turn_n = ? AND seq <= ? ORDER BY seq", (n, upto)
    )
    return StoredTurn(
        turn_id=turn_id,
        status=_status(state, is_begun, is_ended),
        created_at=created_at,
        started_at=started_at if is_begun else None,
        ended_at=ended_at if is_ended else None,
        engine=engine if is_begun else None,
        content=content,
        usage=json.loads(usage) if usage else None,
        events=tuple(_joined(events)),
        calls={call.tool_use_id: call for call in tool_calls(connection, n)},
        choices=_choices(connection, n, loop_id, turn_id),
    )


def _joined(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The events, with deltas that follow each other as one.

    Tens of thousands of small objects at once would have the interpreter look for garbage among
    all that the server holds, which stops it.
    """
    for name, group in groupby(rows, key=lambda row: row[0]):
        if name in DELTAS:
            yield name, {"text": "".join(json.loads(data)["text"] for _, data in group)}
        else:
            for _, data in group:
                yield name, json.loads(data)


def _status(state: TurnState, is_begun: bool, is_ended: bool) -> TurnState:
    """The state at the index's ``seq`` of a turn that may have run on since."""
    if is_ended:
        return state
    if not is_begun:
        return "queued"
    return "waiting" if state == "waiting" else "running"


def _choices(
    connection: sqlite3.Connection, turn_n: int, loop_id: str, turn_id: str
) -> dict[str, ChoiceRow]:
    rows = connection.execute(
        "SELECT choice_id, tool_use_id, kind, payload, outcome, answer, source, resolved_at "
        "FROM choices WHERE turn_n = ?",
        (turn_n,),
    )
    return {row[0]: _choice(row, loop_id, turn_id) for row in rows}


def _choice(row: tuple[Any, ...], loop_id: str, turn_id: str) -> ChoiceRow:
    choice_id, tool_use_id, kind, payload, outcome, answer, source, resolved_at = row
    choice = ChoiceRecord(
        choice_id=choice_id,
        loop_id=loop_id,
        turn_id=turn_id,
        tool_use_id=tool_use_id,
        kind=kind,
        payload=json.loads(payload),
        pending=outcome is None,
        outcome=outcome,
        answer=json.loads(answer) if answer else None,
    )
    return ChoiceRow(choice, source, resolved_at)
