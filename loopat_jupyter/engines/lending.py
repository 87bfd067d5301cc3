"""Lending a configured model to a sandbox: the real key is added here, outside, and stays here.

An agent's own program inside may ask only what such programs ask of a model: messages and what
belongs to them, below the provider's base URL. Bytes pass unchanged in both directions.
"""

from __future__ import annotations

import asyncio
import importlib
import posixpath
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote, urlsplit

from ..context.config import ModelChoice
from ..loops.errors import TurnFailed
from ..loops.network import Headers, ModelAnswer, ModelRefused

PATHS: dict[str, frozenset[str]] = {
    "anthropic": frozenset({"/v1/messages", "/v1/messages/count_tokens", "/v1/models"}),
    "openai": frozenset({"/chat/completions", "/responses", "/models"}),
}
CREDENTIALS = frozenset({"authorization", "x-api-key", "api-key", "cookie"})
NOT_LENT = "Of the model provider only these can be asked from inside: {paths}."
NO_PROVIDER = (
    "The demo model lives in the server and cannot be lent to an agent in the sandbox. Describe a "
    'provider in config.json, or set LoopatExtension.engine to "builtin".'
)


class LentModel:
    """Implements :class:`~loopat_jupyter.loops.network.ModelUpstream` for one choice."""

    def __init__(self, choice: ModelChoice, base_url: str, http: Any) -> None:
        address = urlsplit(base_url)
        self.host = address.hostname or ""
        self.port = address.port or (443 if address.scheme == "https" else 80)
        self._base_url = base_url
        self._paths = PATHS[choice.api]
        self._credentials = _credentials(choice, own=choice.base_url is not None)
        self._http = http

    async def ask(
        self, method: str, target: str, headers: Headers, body: AsyncIterator[bytes] | None
    ) -> ModelAnswer:
        path = target.partition("?")[0].rstrip("/")
        if path not in self._paths or posixpath.normpath(unquote(path)) != path:
            raise ModelRefused(NOT_LENT.format(paths=", ".join(sorted(self._paths))))
        sent = [(name, value) for name, value in headers if name not in CREDENTIALS]
        request = self._http.build_request(
            method,
            f"{self._base_url}{target}",
            headers=[*sent, *self._credentials.items()],
            content=body,
        )
        return _Answer(await _carry(self._http.send(request, stream=True)))


class _Answer:
    """A response of the HTTP client as the gateway reads it."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: Headers = [
            (name.lower(), value) for name, value in response.headers.multi_items()
        ]

    async def body(self) -> AsyncIterator[bytes]:
        pieces = self._response.aiter_raw()
        while True:
            piece = await _carry(anext(pieces, None))
            if piece is None:
                return
            yield piece

    async def close(self) -> None:
        await self._response.aclose()


async def _carry(work: Any) -> Any:
    """Await the HTTP client; its failures come as ``OSError``, with what happened and no secret."""
    import httpx2

    try:
        return await work
    except httpx2.HTTPError as error:
        cause = error.__cause__ or error
        raise OSError(str(cause).partition("\n")[0][:200] or type(error).__name__) from error


def _credentials(choice: ModelChoice, *, own: bool) -> dict[str, str]:
    """``own``: an address of one's own. Gateways that speak Anthropic's API look for either."""
    bearer = {"authorization": f"Bearer {choice.api_key}"}
    if choice.api == "openai":
        return bearer
    key = {"x-api-key": choice.api_key}
    return {**key, **bearer} if own else key


class Lender:
    """Makes upstreams; all of them share one pool of connections. Close it with the engine."""

    def __init__(self) -> None:
        self._http: Any = None

    async def upstream(self, choice: ModelChoice) -> LentModel:
        """The model of ``choice``, to be lent. Raises ``TurnFailed`` for the demo."""
        if choice.api == "demo":
            raise TurnFailed(NO_PROVIDER)
        connection = await asyncio.to_thread(
            importlib.import_module, f"{__package__}.remote.connection"
        )
        if self._http is None:
            http = await asyncio.to_thread(connection.open_http_client)
            if self._http is None:
                self._http = http
            else:
                await http.aclose()
        return LentModel(choice, connection.base_url(choice), self._http)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()
