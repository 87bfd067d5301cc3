"""API tokens on disk: the SHA-256 of a token, never the token."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from ..loops.models import TokenRecord
from .database import Database

_COLUMNS = "token_id, owner, label, created_at, last_used_at"


class TokenRepository:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, token: TokenRecord, token_hash: str) -> None:
        await self._database.write(
            lambda connection, _events: insert_token(connection, token, token_hash)
        )

    async def find(self, token_hash: str) -> tuple[TokenRecord, str] | None:
        """The token with that hash, and the stored hash to compare with."""

        def query(connection: sqlite3.Connection) -> tuple[TokenRecord, str] | None:
            row = connection.execute(
                f"SELECT {_COLUMNS}, token_hash FROM tokens WHERE token_hash = ?",
                (token_hash,),
            ).fetchone()
            return (TokenRecord(*row[:-1]), row[-1]) if row else None

        return await self._database.read(query)

    async def of_owner(self, owner: str) -> list[TokenRecord]:
        """The owner's tokens, newest first."""
        return await self._database.read(lambda connection: list_tokens(connection, owner))

    async def delete(self, owner: str, token_id: str) -> bool:
        """Whether there was such a token of that owner."""
        return await self._database.write(
            lambda connection, _events: delete_token(connection, owner, token_id)
        )

    async def touch(self, used: Mapping[str, str]) -> None:
        """Write down when tokens were last used (token id -> time)."""
        rows = [(stamp, token_id) for token_id, stamp in used.items()]
        await self._database.write(
            lambda connection, _events: connection.executemany(
                "UPDATE tokens SET last_used_at = ? WHERE token_id = ?", rows
            ),
            durable=False,
        )

    async def existing(self, token_ids: frozenset[str]) -> frozenset[str]:
        """Those of ``token_ids`` that still exist."""

        def query(connection: sqlite3.Connection) -> frozenset[str]:
            return frozenset(
                token_id
                for token_id in token_ids
                if connection.execute(
                    "SELECT 1 FROM tokens WHERE token_id = ?", (token_id,)
                ).fetchone()
            )

        return await self._database.read(query)


def insert_token(connection: sqlite3.Connection, token: TokenRecord, token_hash: str) -> None:
    connection.execute(
        "INSERT INTO tokens (token_id, token_hash, owner, label, created_at) "
        "VALUES (?, ?, ?, ?, ?)",
        (token.token_id, token_hash, token.owner, token.label, token.created_at),
    )


def list_tokens(connection: sqlite3.Connection, owner: str) -> list[TokenRecord]:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM tokens WHERE owner = ? ORDER BY n DESC",
        (owner,),
    )
    return [TokenRecord(*row) for row in rows]


def delete_token(connection: sqlite3.Connection, owner: str, token_id: str) -> bool:
    cursor = connection.execute(
        "DELETE FROM tokens WHERE token_id = ? AND owner = ?", (token_id, owner)
    )
    return cursor.rowcount > 0
