"""The database's schema and its migrations.

``user_version`` counts the migrations that were applied. A database with a higher number was
written by a newer version and is left alone (:class:`StoreTooNew`).

Integer keys (``loop_n``, ``turn_n``) tie the tables together: an event row is written for every
streamed delta, so its key must be small.
"""

from __future__ import annotations

import sqlite3

from ..loops.models import UNFINISHED

IS_UNFINISHED = f"state IN ({', '.join(map(repr, UNFINISHED))})"
"""As the partial index ``turns_unfinished`` spells it: SQLite uses that index only for a query that
has this very condition."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE loops (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        loop_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        title TEXT NOT NULL,
        created_at TEXT NOT NULL,
        archived_at TEXT,
        metadata TEXT NOT NULL,
        profiles TEXT NOT NULL,
        vault TEXT NOT NULL,
        repo TEXT,
        folders TEXT NOT NULL
    );
    CREATE INDEX loops_by_owner ON loops (owner, n);
    CREATE INDEX loops_in_use ON loops (owner, n) WHERE archived_at IS NULL;

    CREATE TABLE turns (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        turn_id TEXT NOT NULL UNIQUE,
        loop_n INTEGER NOT NULL REFERENCES loops (n),
        owner TEXT NOT NULL,
        content TEXT NOT NULL,
        permission_mode TEXT,
        state TEXT NOT NULL,
        created_at TEXT NOT NULL,
        started_at TEXT,
        ended_at TEXT,
        error_code TEXT,
        started_seq INTEGER,
        ended_seq INTEGER,
        text TEXT,
        usage TEXT
    );
    CREATE INDEX turns_by_loop ON turns (loop_n, n);
    CREATE INDEX turns_unfinished ON turns (loop_n, n)
        WHERE state IN ('queued', 'running', 'waiting');

    CREATE TABLE idempotency (
        owner TEXT NOT NULL,
        key TEXT NOT NULL,
        turn_n INTEGER NOT NULL REFERENCES turns (n),
        fingerprint TEXT NOT NULL,
        created REAL NOT NULL,
        PRIMARY KEY (owner, key)
    ) WITHOUT ROWID;

    CREATE TABLE events (
        loop_n INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        turn_n INTEGER NOT NULL,
        name TEXT NOT NULL,
        data TEXT NOT NULL,
        PRIMARY KEY (loop_n, seq)
    ) WITHOUT ROWID;
    CREATE INDEX events_by_turn ON events (turn_n, seq);

    CREATE TABLE journal (
        turn_n INTEGER NOT NULL,
        position INTEGER NOT NULL,
        entry TEXT NOT NULL,
        PRIMARY KEY (turn_n, position)
    ) WITHOUT ROWID;

    CREATE TABLE tool_calls (
        turn_n INTEGER NOT NULL,
        position INTEGER NOT NULL,
        tool_use_id TEXT NOT NULL,
        tool TEXT NOT NULL,
        input TEXT NOT NULL,
        ok INTEGER,
        result TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (turn_n, position),
        UNIQUE (turn_n, tool_use_id)
    ) WITHOUT ROWID;

    CREATE TABLE choices (
        choice_id TEXT PRIMARY KEY,
        loop_n INTEGER NOT NULL,
        turn_n INTEGER NOT NULL,
        tool_use_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        payload TEXT NOT NULL,
        outcome TEXT,
        source TEXT,
        answer TEXT,
        created_seq INTEGER NOT NULL,
        resolved_seq INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX choices_by_turn ON choices (turn_n, created_seq);
    CREATE INDEX choices_pending ON choices (turn_n) WHERE outcome IS NULL;

    CREATE TABLE rules (
        rule_id TEXT PRIMARY KEY,
        loop_n INTEGER NOT NULL,
        tool TEXT NOT NULL,
        prefix TEXT,
        created_at TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX rules_by_loop ON rules (loop_n);

    CREATE TABLE tokens (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        token_id TEXT NOT NULL UNIQUE,
        token_hash TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        label TEXT NOT NULL,
        created_at TEXT NOT NULL,
        last_used_at TEXT
    );
    CREATE INDEX tokens_by_owner ON tokens (owner, n);
    """,
    """
    ALTER TABLE turns ADD COLUMN engine TEXT;

    CREATE TABLE network (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        loop_n INTEGER NOT NULL,
        started_at TEXT NOT NULL,
        kind TEXT NOT NULL,
        host TEXT NOT NULL,
        port INTEGER NOT NULL,
        verdict TEXT NOT NULL,
        reason TEXT NOT NULL,
        bytes_out INTEGER NOT NULL,
        bytes_in INTEGER NOT NULL
    );
    CREATE INDEX network_by_loop ON network (loop_n, n);
    """,
    """
    ALTER TABLE choices ADD COLUMN resolved_at TEXT;
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, each migration in a transaction of its own."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;"
        )
