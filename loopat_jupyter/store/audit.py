"""The audit of what left the sandboxes: one line for each request, read by the loop's owner."""

from __future__ import annotations

import sqlite3
from collections import Counter

from ..loops.errors import InvalidCursor
from ..loops.models import AuditListing
from ..loops.ports.network import AuditEntry
from ..loops.text import sanitize_text
from .database import Database

KEPT = 10_000
"""Lines of one loop. An agent that asks without end pushes its own oldest ones out."""
TRIM_EVERY = 500
"""Lines of one loop between two looks at whether it has too many."""

_COLUMNS = "started_at, kind, host, port, verdict, reason, bytes_out, bytes_in"


class AuditRepository:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._since_trim: Counter[str] = Counter()  # the writer's alone

    async def record(self, request: AuditEntry) -> None:
        """Keep one line."""

        def job(connection: sqlite3.Connection, _events: object) -> None:
            connection.execute(
                f"INSERT INTO network (loop_n, {_COLUMNS}) "
                "SELECT n, ?, ?, ?, ?, ?, ?, ?, ? FROM loops WHERE loop_id = ?",
                (
                    request.started_at,
                    request.kind,
                    sanitize_text(request.host),
                    request.port,
                    request.verdict,
                    sanitize_text(request.reason),
                    request.bytes_out,
                    request.bytes_in,
                    request.loop_id,
                ),
            )
            self._since_trim[request.loop_id] += 1
            if self._since_trim[request.loop_id] >= TRIM_EVERY:
                del self._since_trim[request.loop_id]
                _trim(connection, request.loop_id)

        await self._database.write(job, durable=False)

    async def page(self, loop_id: str, *, limit: int, after: str | None) -> AuditListing:
        """Newest first; ``after`` an id gives older ones. Raises ``InvalidCursor``."""
        before = 1 << 62
        if after is not None:
            number = after.removeprefix("net_")
            if not (after.startswith("net_") and number.isascii() and number.isdigit()):
                raise InvalidCursor(f"There is no network request {after[:100]!r} to page from.")
            before = min(int(number[:20]), before)

        def query(connection: sqlite3.Connection) -> AuditListing:
            rows = connection.execute(
                f"SELECT n, {_COLUMNS} FROM network WHERE n < ? AND loop_n = "
                "(SELECT n FROM loops WHERE loop_id = ?) ORDER BY n DESC LIMIT ?",
                (before, loop_id, limit + 1),
            ).fetchall()
            lines = [(f"net_{n}", AuditEntry(loop_id, *rest)) for n, *rest in rows[:limit]]
            return AuditListing(lines, has_more=len(rows) > limit)

        return await self._database.read(query)


def _trim(connection: sqlite3.Connection, loop_id: str) -> None:
    connection.execute(
        "DELETE FROM network WHERE loop_n = (SELECT n FROM loops WHERE loop_id = ?) AND n <= "
        "(SELECT n FROM network WHERE loop_n = (SELECT n FROM loops WHERE loop_id = ?) "
        "ORDER BY n DESC LIMIT 1 OFFSET ?)",
        (loop_id, loop_id, KEPT),
    )
