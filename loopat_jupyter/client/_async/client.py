"""The asyncio client. It belongs to one event loop."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from .. import _requests
from .._address import ServerAddress, check_url
from .._discovery import find_server
from .._models import ApiToken
from .._retry import RetryPolicy
from .loops import AsyncLoops
from .transport import AsyncTransport


class AsyncTokens:
    """``client.tokens``: API tokens. The server lets only a browser session manage them,
    unless its administrator decided otherwise."""

    def __init__(self, carrier: AsyncTransport) -> None:
        self._carrier = carrier

    async def create(self, label: str | None = None) -> ApiToken:
        """A new token; its ``token`` is shown this once."""
        return await self._carrier.request(_requests.create_token(label))

    async def list(self) -> builtins.list[ApiToken]:
        return await self._carrier.request(_requests.list_tokens())

    async def revoke(self, token_id: str) -> None:
        await self._carrier.request(_requests.revoke_token(token_id))


class AsyncClient:
    """A client of one server's Loop API.

    Args:
        url: the Jupyter server's base URL (as in the browser, without ``/lab``), or an
            address that was found.
        token: a ``la_…`` API token, or the Jupyter server's (or a Hub's) token.
        transport: carries the requests instead of the network, for tests.
        verify: as ``httpx`` takes it: ``False``, or an ``ssl.SSLContext`` of your own.
        retry: how persistent to be.
        headers: sent with every request.

    Raises:
        ValueError: ``url`` is no http(s) address.
    """

    def __init__(
        self,
        url: str | ServerAddress,
        token: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        verify: Any = True,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        address = url if isinstance(url, ServerAddress) else ServerAddress(check_url(url), token)
        self._carrier = AsyncTransport(
            address,
            transport=transport,
            verify=verify,
            retry=retry or RetryPolicy(),
            headers=headers,
        )
        self.loops = AsyncLoops(self._carrier)
        self.tokens = AsyncTokens(self._carrier)

    @property
    def address(self) -> ServerAddress:
        return self._carrier.address

    async def aclose(self) -> None:
        await self._carrier.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address.api_url}>"


def connect_async(**options: Any) -> AsyncClient:
    """As :func:`connect`, for asyncio callers.

    Raises:
        ServerNotFound: none of the three applies.
    """
    return AsyncClient(find_server(), **options)
