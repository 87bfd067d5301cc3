# Generated from ../_async/client.py by `python tools/generate_sync_client.py`: edit that file.
"""The client object: a server's loops and API tokens."""

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
from .loops import Loops
from .transport import Transport


class Tokens:
    """``client.tokens``: API tokens.

    Unless the server's administrator decided otherwise, only a browser session may manage them.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, label: str | None = None) -> ApiToken:
        """Create a token. Its secret, ``token``, is in this response only."""
        return self._transport.request(_requests.create_token(label))

    def list(self) -> builtins.list[ApiToken]:
        """All tokens of the caller, without their secrets."""
        return self._transport.request(_requests.list_tokens())

    def revoke(self, token_id: str) -> None:
        """Revoke a token. Raises ``NotFoundError`` where there is none of that id."""
        self._transport.request(_requests.revoke_token(token_id))


class Client:
    """A client of one server's Loop API.

    Args:
        url: the Jupyter server's base URL (as in the browser, without ``/lab``), or an
            address as :func:`find_server` returns it.
        token: a ``la_…`` API token, or the Jupyter server's (or a Hub's) token.
        transport: an httpx transport that replaces the network, for tests.
        verify: as ``httpx`` takes it: ``False``, or an ``ssl.SSLContext``.
        retry: how often and how long requests are retried.
        headers: sent with every request.

    Raises:
        ValueError: ``url`` is no http(s) address.
    """

    def __init__(
        self,
        url: str | ServerAddress,
        token: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        verify: Any = True,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        address = url if isinstance(url, ServerAddress) else ServerAddress(check_url(url), token)
        self._transport = Transport(
            address,
            transport=transport,
            verify=verify,
            retry=retry or RetryPolicy(),
            headers=headers,
        )
        self.loops = Loops(self._transport)
        self.tokens = Tokens(self._transport)

    @property
    def address(self) -> ServerAddress:
        """The server's address, with the token that is sent to it."""
        return self._transport.address

    def close(self) -> None:
        """Close all connections. Turns continue in the server."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address.api_url}>"


def connect(**options: Any) -> Client:
    """A client of the server that this process belongs to.

    ``options`` as for :class:`Client`. Looks, in this order, at ``LOOPAT_URL`` with
    ``LOOPAT_TOKEN``, at ``JUPYTERHUB_API_TOKEN``, and for the running server whose pid is
    ``JPY_PARENT_PID``.

    Raises:
        ServerNotFound: none of the three applies.
    """
    return Client(find_server(), **options)
