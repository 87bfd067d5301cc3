"""Accepting a message: idempotency reservation, turn and message, inside one transaction.

A key names its first message for 24 hours, per caller. The same key with the same loop and body
finds that message's turn; with another it is refused. Both are decided in the transaction that
stores the message, so two requests at once make one turn.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time

from ..loops.errors import IdempotencyKeyReused, LoopArchived, Overloaded
from ..loops.models import AcceptedMessage, NewMessage, new_turn_id, now, to_json
from .schema import IS_UNFINISHED

IDEMPOTENCY_WINDOW = 24 * 3600.0
"""Seconds for which a key names its first message (contract, Limits)."""


def _fingerprint(loop_id: str, message: NewMessage) -> str:
    body = to_json([loop_id, message.content, message.permission_mode])
    return hashlib.sha256(body.encode()).hexdigest()


def find_replay(
    connection: sqlite3.Connection, owner: str, loop_id: str, message: NewMessage
) -> AcceptedMessage | None:
    if message.idempotency_key is None:
        return None
    row = connection.execute(
        "SELECT i.fingerprint, t.turn_id, t.state, t.loop_n, t.n FROM idempotency i "
        "JOIN turns t ON t.n = i.turn_n WHERE i.owner = ? AND i.key = ? AND i.created > ?",
        (owner, message.idempotency_key, time.time() - IDEMPOTENCY_WINDOW),
    ).fetchone()
    if row is None:
        return None
    fingerprint, turn_id, state, loop_n, turn_n = row
    if fingerprint != _fingerprint(loop_id, message):
        raise IdempotencyKeyReused(
            "This Idempotency-Key was used for another loop or another body in the last 24 hours. "
            "Nothing was run: use a new key for a new message."
        )
    return AcceptedMessage(turn_id, _ahead(connection, loop_n, turn_n), replayed=True, state=state)


def _ahead(connection: sqlite3.Connection, loop_n: int, before: int) -> int:
    (ahead,) = connection.execute(
        f"SELECT COUNT(*) FROM turns WHERE loop_n = ? AND n < ? AND {IS_UNFINISHED}",
        (loop_n, before),
    ).fetchone()
    return int(ahead)


def insert_turn(
    connection: sqlite3.Connection, owner: str, loop_id: str, message: NewMessage, queue_limit: int
) -> AcceptedMessage:
    loop_n, archived_at = connection.execute(
        "SELECT n, archived_at FROM loops WHERE loop_id = ?", (loop_id,)
    ).fetchone()
    if archived_at is not None:
        raise LoopArchived("This loop is archived and takes no messages. Create a new one.")
    ahead = _ahead(connection, loop_n, 1 << 62)
    if ahead > queue_limit:
        raise Overloaded(
            f"{queue_limit} messages wait in this loop already. Nothing was queued: wait for some "
            "of them, or interrupt the loop."
        )
    turn_id = new_turn_id()
    cursor = connection.execute(
        "INSERT INTO turns (turn_id, loop_n, owner, content, permission_mode, state, created_at) "
        "VALUES (?, ?, ?, ?, ?, 'queued', ?)",
        (turn_id, loop_n, owner, message.content, message.permission_mode, now()),
    )
    if message.idempotency_key is not None:
        _reserve(connection, owner, loop_id, message, cursor.lastrowid or 0)
    return AcceptedMessage(turn_id, ahead)


def _reserve(
    connection: sqlite3.Connection, owner: str, loop_id: str, message: NewMessage, turn_n: int
) -> None:
    created = time.time()
    connection.execute(
        "DELETE FROM idempotency WHERE owner = ? AND created <= ?",
        (owner, created - IDEMPOTENCY_WINDOW),
    )
    connection.execute(
        "INSERT INTO idempotency (owner, key, turn_n, fingerprint, created) VALUES (?, ?, ?, ?, ?)",
        (owner, message.idempotency_key, turn_n, _fingerprint(loop_id, message), created),
    )
