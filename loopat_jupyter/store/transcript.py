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

from ..loops.ports.engine import TurnState
from ..loops.transcript_source import StoredTurn, TranscriptIndex
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
        events=_completed(list(_joined(events)), connection, n),
    )


def _joined(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
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


def _completed(
    events: list[tuple[str, dict[str, Any]]], connection: sqlite3.Connection, turn_n: int
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """``events`` with what the rows of the turn's tool calls and choices know beyond them."""
    calls = {call.tool_use_id: call for call in tool_calls(connection, turn_n)}
    rows = connection.execute(
        "SELECT choice_id, tool_use_id, resolved_at, answer FROM choices WHERE turn_n = ?",
        (turn_n,),
    )
    choices = {choice_id: row for choice_id, *row in rows}
    for name, data in events:
        if name in ("tool_call", "tool_result"):
            call = calls.get(data["tool_use_id"])
            if call is not None:
                data |= {"input": call.input} if name == "tool_call" else {"result": call.result}
        elif name in ("requires_choice", "choice_resolved") and data["choice_id"] in choices:
            tool_use_id, resolved_at, answer = choices[data["choice_id"]]
            if name == "requires_choice":
                data["tool_use_id"] = tool_use_id
            else:
                answers = json.loads(answer).get("answers") if answer else None
                data |= {"resolved_at": resolved_at, "answers": answers}
    return tuple(events)
