"""Loops on disk: records, listing, what each is doing, remembered rules."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from ..loops.errors import InvalidCursor
from ..loops.models import (
    LoopEvent,
    LoopListing,
    LoopRecord,
    LoopState,
    RuleRecord,
    RunningTurn,
    SharedFolder,
    now,
    to_json,
)
from .database import Database
from .schema import IS_UNFINISHED
from .turn_end import finish_turn
from .turns import unfinished_turns

_COLUMNS = (
    "n, loop_id, owner, title, created_at, archived_at, metadata, profiles, vault, repo, folders"
)


def _loop(row: tuple[Any, ...]) -> LoopRecord:
    n, loop_id, owner, title, created_at, archived_at, metadata, profiles, vault, repo, folders = (
        row
    )
    return LoopRecord(
        loop_id=loop_id,
        owner=owner,
        title=title,
        created_at=created_at,
        metadata=json.loads(metadata),
        profiles=tuple(json.loads(profiles)),
        vault=vault,
        repo=repo,
        folders=tuple(SharedFolder(**folder) for folder in json.loads(folders)),
        archived_at=archived_at,
        n=n,
    )


class LoopRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, loop: LoopRecord) -> None:
        folders = [{"path": folder.path, "write": folder.write} for folder in loop.folders]
        values = (
            loop.loop_id,
            loop.owner,
            loop.title,
            loop.created_at,
            to_json(dict(loop.metadata)),
            to_json(list(loop.profiles)),
            loop.vault,
            loop.repo,
            to_json(folders),
        )
        await self._database.write(
            lambda connection, _events: connection.execute(
                "INSERT INTO loops (loop_id, owner, title, created_at, metadata, profiles, vault, "
                "repo, folders) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        )

    async def get(self, loop_id: str) -> LoopRecord | None:
        def query(connection: sqlite3.Connection) -> LoopRecord | None:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM loops WHERE loop_id = ?",
                (loop_id,),
            ).fetchone()
            return _loop(row) if row else None

        return await self._database.read(query)

    async def archive(self, loop_id: str) -> None:
        """Mark as archived (the first time counts), and end what waits in the loop with it."""
        stamp = now()

        def job(connection: sqlite3.Connection, stored: list[LoopEvent]) -> None:
            connection.execute(
                "UPDATE loops SET archived_at = ? WHERE loop_id = ? AND archived_at IS NULL",
                (stamp, loop_id),
            )
            for turn in unfinished_turns(connection, loop_id):
                if turn.state != "running":  # that one has a task, which ends it
                    finish_turn(connection, stored, turn, "interrupted")

        await self._database.write(job)

    async def page(
        self, owner: str, *, limit: int, after: str | None, before: str | None, archived: bool
    ) -> LoopListing:
        """One page of the owner's loops, newest first. Raises ``InvalidCursor``."""
        return await self._database.read(
            lambda connection: _list(connection, owner, limit, after, before, archived)
        )

    async def state(self, loop_id: str) -> LoopState:
        return await self._database.read(lambda connection: _state(connection, loop_id))

    async def rules(self, loop_id: str) -> list[RuleRecord]:
        def query(connection: sqlite3.Connection) -> list[RuleRecord]:
            rows = connection.execute(
                "SELECT rule_id, tool, prefix, created_at FROM rules "
                "WHERE loop_n = (SELECT n FROM loops WHERE loop_id = ?) ORDER BY created_at",
                (loop_id,),
            )
            return [RuleRecord(*row) for row in rows]

        return await self._database.read(query)

    async def delete_rule(self, loop_id: str, rule_id: str) -> bool:
        """Whether there was such a rule."""

        def job(connection: sqlite3.Connection, _events: object) -> bool:
            cursor = connection.execute(
                "DELETE FROM rules WHERE rule_id = ? "
                "AND loop_n = (SELECT n FROM loops WHERE loop_id = ?)",
                (rule_id, loop_id),
            )
            return cursor.rowcount > 0

        return await self._database.write(job)


def _position(connection: sqlite3.Connection, owner: str, loop_id: str) -> int:
    row = connection.execute(
        "SELECT n FROM loops WHERE loop_id = ? AND owner = ?", (loop_id, owner)
    ).fetchone()
    if row is None:
        raise InvalidCursor(f"There is no loop {loop_id!r} among yours to page from.")
    return int(row[0])


def _list(
    connection: sqlite3.Connection,
    owner: str,
    limit: int,
    after: str | None,
    before: str | None,
    archived: bool,
) -> LoopListing:
    where, values = "owner = ?", [owner]
    bounds: list[int] = []
    if not archived:
        where += " AND archived_at IS NULL"
    if after is not None:
        where += " AND n < ?"
        bounds.append(_position(connection, owner, after))
    if before is not None:
        where += " AND n > ?"
        bounds.append(_position(connection, owner, before))
    # A page before a cursor is the one next to it: read away from the cursor, then turned round.
    direction = "ASC" if before is not None else "DESC"
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM loops WHERE {where} ORDER BY n {direction} LIMIT ?",
        [*values, *bounds, limit + 1],
    ).fetchall()
    loops = [_loop(row) for row in rows[:limit]]
    if before is not None:
        loops.reverse()
    return LoopListing(loops, has_more=len(rows) > limit)


def _state(connection: sqlite3.Connection, loop_id: str) -> LoopState:
    (loop_n,) = connection.execute("SELECT n FROM loops WHERE loop_id = ?", (loop_id,)).fetchone()
    (turn_count,) = connection.execute(
        "SELECT COUNT(*) FROM turns WHERE loop_n = ?", (loop_n,)
    ).fetchone()
    unfinished = connection.execute(
        "SELECT n, turn_id, state, started_at FROM turns WHERE loop_n = ? "
        f"AND {IS_UNFINISHED} ORDER BY n",
        (loop_n,),
    ).fetchall()
    if not unfinished:
        return LoopState(0, turn_count, None)
    turn_n, turn_id, state, started_at = unfinished[0]
    pending = connection.execute(
        "SELECT choice_id FROM choices WHERE turn_n = ? AND outcome IS NULL "
        "ORDER BY created_seq LIMIT 1",
        (turn_n,),
    ).fetchone()
    current = RunningTurn(turn_id, state, started_at, pending[0] if pending else None)
    return LoopState(len(unfinished), turn_count, current)
