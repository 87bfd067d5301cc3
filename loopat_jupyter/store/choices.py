"""Choices on disk. A choice is a row, so it outlives connection, sandbox and server."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from ..loops.models import ChoiceRecord, LoopEvent, Resolution, TurnRecord, now, to_json
from .database import Database
from .events import append_events
from .turns import read_turn

_SELECT = """
    SELECT c.choice_id, l.loop_id, t.turn_id, c.tool_use_id, c.kind, c.payload, c.outcome, c.answer
    FROM choices c JOIN turns t ON t.n = c.turn_n JOIN loops l ON l.n = c.loop_n
"""


def _choice(row: tuple[Any, ...]) -> ChoiceRecord:
    choice_id, loop_id, turn_id, tool_use_id, kind, payload, outcome, answer = row
    return ChoiceRecord(
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


class ChoiceRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_turn(self, turn: TurnRecord) -> list[ChoiceRecord]:
        def query(connection: sqlite3.Connection) -> list[ChoiceRecord]:
            rows = connection.execute(
                f"{_SELECT} WHERE c.turn_n = ? ORDER BY c.created_seq", (turn.n,)
            )
            return [_choice(row) for row in rows]

        return await self._database.read(query)

    async def get(self, loop_id: str, choice_id: str) -> ChoiceRecord | None:
        def query(connection: sqlite3.Connection) -> ChoiceRecord | None:
            row = connection.execute(
                f"{_SELECT} WHERE c.choice_id = ? AND l.loop_id = ?", (choice_id, loop_id)
            ).fetchone()
            return _choice(row) if row else None

        return await self._database.read(query)

    async def open(self, turn: TurnRecord, choice: ChoiceRecord, *, waiting: bool) -> None:
        """Store the choice and its ``requires_choice``. ``waiting``: the turn is suspended."""

        def job(connection: sqlite3.Connection, stored: list[LoopEvent]) -> None:
            data = {
                "choice_id": choice.choice_id,
                "kind": choice.kind,
                "payload": choice.payload,
            }
            seq = append_events(connection, stored, turn, [("requires_choice", data)])
            connection.execute(
                "INSERT INTO choices (choice_id, loop_n, turn_n, tool_use_id, kind, payload, "
                "created_seq) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    choice.choice_id,
                    turn.loop_n,
                    turn.n,
                    choice.tool_use_id,
                    choice.kind,
                    to_json(choice.payload),
                    seq,
                ),
            )
            if waiting:
                connection.execute("UPDATE turns SET state = 'waiting' WHERE n = ?", (turn.n,))

        await self._database.write(job)

    async def resolve(self, choice: ChoiceRecord, resolution: Resolution) -> bool:
        """Resolve it if it is still pending; of several at once exactly one gets ``True``."""

        def job(connection: sqlite3.Connection, stored: list[LoopEvent]) -> bool:
            return _resolve(connection, stored, choice, resolution)

        return await self._database.write(job)


def _resolve(
    connection: sqlite3.Connection,
    stored: list[LoopEvent],
    choice: ChoiceRecord,
    resolution: Resolution,
) -> bool:
    cursor = connection.execute(
        "UPDATE choices SET outcome = ?, source = ?, answer = ?, resolved_at = ? "
        "WHERE choice_id = ? AND outcome IS NULL RETURNING turn_n",
        (
            resolution.outcome,
            resolution.source,
            to_json(resolution.answer),
            now(),
            choice.choice_id,
        ),
    )
    row = cursor.fetchone()
    if row is None:
        return False
    turn = read_turn(connection, row[0])
    data: dict[str, Any] = {
        "choice_id": choice.choice_id,
        "source": resolution.source,
        "outcome": resolution.outcome,
    }
    rule = resolution.rule
    if rule is not None:
        data["rule"] = {
            "rule_id": rule.rule_id,
            "tool": rule.tool,
            "prefix": rule.prefix,
            "scope": "loop",
        }
        connection.execute(
            "INSERT INTO rules (rule_id, loop_n, tool, prefix, created_at) VALUES (?, ?, ?, ?, ?)",
            (rule.rule_id, turn.loop_n, rule.tool, rule.prefix, rule.created_at),
        )
    seq = append_events(connection, stored, turn, [("choice_resolved", data)])
    connection.execute(
        "UPDATE choices SET resolved_seq = ? WHERE choice_id = ?", (seq, choice.choice_id)
    )
    return True
