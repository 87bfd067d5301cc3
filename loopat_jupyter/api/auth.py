"""API tokens, and the user name that a Jupyter credential resolves to.

Tokens come from the system's CSPRNG, are stored as SHA-256, looked up by that hash and compared in
constant time. ``lastUsedAt`` is collected in memory and written to the store once a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jupyter_server.auth import IdentityProvider, User
from jupyter_server.auth.identity import LegacyIdentityProvider
from jupyter_server.auth.login import LegacyLoginHandler

from ..loops.errors import StoreError, TokenNotFound
from ..loops.models import TokenRecord, now
from .errors import InvalidToken

log = logging.getLogger(__name__)

OWNER = "owner"
"""The user name of every Jupyter credential on a single-user server."""

TOKEN_PREFIX = "la_"  # noqa: S105 - the public part of every token


@dataclass(frozen=True, slots=True)
class Caller:
    """The user that a request's credentials resolve to, and the kind of these credentials."""

    name: str
    kind: Literal["cookie", "jupyter_token", "api_token"]
    token_id: str | None = None

    @property
    def is_program(self) -> bool:
        """Whether the credential is an API token, and not a Jupyter session."""
        return self.kind == "api_token"


def resolve_owner(provider: IdentityProvider, user: User) -> str:
    """The name that a Jupyter credential resolves to (contract, Credentials).

    jupyter_server's own providers know one person, whom they give a random name per browser; that
    person is :data:`OWNER`. A Hub's and a custom provider's users are who they are. What
    authenticates decides, not the environment: a server that somebody starts in a terminal of
    their Hub server inherits its variables and has Jupyter's own provider.
    """
    if not type(provider).__module__.startswith("jupyter_server."):
        return user.username
    if isinstance(provider, LegacyIdentityProvider):
        handler: Any = provider.login_handler_class
        return OWNER if issubclass(handler, LegacyLoginHandler) else user.username
    return OWNER


def new_token() -> str:
    return TOKEN_PREFIX + secrets.token_hex(24)


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def new_token_record(owner: str, label: str) -> TokenRecord:
    return TokenRecord(f"tok_{secrets.token_hex(6)}", owner, label, now())


class TokenStore(Protocol):
    """The stored tokens; :class:`loopat_jupyter.store.tokens.TokenRepository` implements it."""

    async def create(self, token: TokenRecord, token_hash: str) -> None: ...
    async def find(self, token_hash: str) -> tuple[TokenRecord, str] | None: ...
    async def of_owner(self, owner: str) -> list[TokenRecord]: ...
    async def delete(self, owner: str, token_id: str) -> bool: ...
    async def touch(self, used: Mapping[str, str]) -> None: ...
    async def existing(self, token_ids: frozenset[str]) -> frozenset[str]: ...


class ApiTokenService:
    """Creates, checks and revokes tokens, and ends the streams of revoked ones.

    :meth:`run_maintenance` must run as a task while the server lives: it stores ``lastUsedAt`` and
    notices tokens that were revoked from the command line.
    """

    FLUSH_INTERVAL = 60.0
    """Seconds between two writes of ``lastUsedAt``."""
    RECHECK_INTERVAL = 0.5
    """Seconds between two checks for revoked tokens, while any has an open stream."""

    def __init__(self, tokens: TokenStore) -> None:
        self._tokens = tokens
        self._used: dict[str, str] = {}
        self._streams: dict[str, set[Callable[[], None]]] = {}
        self._has_streams = asyncio.Event()

    async def create(self, owner: str, label: str) -> tuple[TokenRecord, str]:
        """A new token and its secret, which is not kept."""
        secret = new_token()
        token = new_token_record(owner, label)
        await self._tokens.create(token, token_digest(secret))
        return token, secret

    async def authenticate(self, secret: str) -> TokenRecord:
        """The token with that secret. Raises ``InvalidToken``."""
        digest = token_digest(secret)
        found = await self._tokens.find(digest)
        if found is None or not hmac.compare_digest(found[1], digest):
            raise InvalidToken("This API token is unknown or was revoked.")
        token = found[0]
        self._used[token.token_id] = now()
        return token

    async def of_owner(self, owner: str) -> list[tuple[TokenRecord, str | None]]:
        """The owner's tokens, newest first, each with when it was last used."""
        tokens = await self._tokens.of_owner(owner)
        return [(token, self._used.get(token.token_id, token.last_used_at)) for token in tokens]

    async def revoke(self, owner: str, token_id: str) -> None:
        """Takes effect at once. Raises ``TokenNotFound``, also for somebody else's."""
        if not await self._tokens.delete(owner, token_id):
            raise TokenNotFound("You have no such token.")
        self._used.pop(token_id, None)
        self._end_streams(token_id)

    def add_stream(self, token_id: str, end: Callable[[], None]) -> None:
        """``end`` is called when the token is revoked, until :meth:`remove_stream`."""
        self._streams.setdefault(token_id, set()).add(end)
        self._has_streams.set()

    def remove_stream(self, token_id: str, end: Callable[[], None]) -> None:
        ends = self._streams.get(token_id)
        if ends is not None:
            ends.discard(end)
            if not ends:
                del self._streams[token_id]
        if not self._streams:
            self._has_streams.clear()

    def _end_streams(self, token_id: str) -> None:
        for end in tuple(self._streams.get(token_id, ())):
            end()

    async def flush(self) -> None:
        """Store when tokens were last used. What cannot be stored is kept for the next time."""
        if self._used:
            used, self._used = self._used, {}
            try:
                await self._tokens.touch(used)
            except StoreError as error:
                self._used = used | self._used
                log.warning("loopat: when tokens were last used is not saved yet: %s", error)

    async def run_maintenance(self) -> None:
        """Runs until cancelled; see the class's docstring."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._flush_regularly())
            group.create_task(self._recheck_streams())

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(self.FLUSH_INTERVAL)
            await self.flush()

    async def _recheck_streams(self) -> None:
        # `loopat token revoke` deletes the row from another process; SQLite has no event for it.
        while True:
            await self._has_streams.wait()
            open_tokens = frozenset(self._streams)
            try:
                for token_id in open_tokens - await self._tokens.existing(open_tokens):
                    self._end_streams(token_id)
            except (sqlite3.Error, StoreError) as error:
                log.warning("loopat: open streams are not checked for revoked tokens: %s", error)
            await asyncio.sleep(self.RECHECK_INTERVAL)
