"""The synchronous client. Safe to share between threads; a stream belongs to one of them."""

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
    """``client.tokens``: API tokens. The server lets only a browser session manage them,
    unless its administrator decided otherwise."""

    def __init__(self, carrier: Transport) -> None:
        self._carrier = carrier

    def create(self, label: str | None = None) -> ApiToken:
        """A new token; its ``token`` is shown this once."""
        return self._carrier.request(_requests.create_token(label))

    def list(self) -> builtins.list[ApiToken]:
        return self._carrier.request(_requests.list_tokens())

    def revoke(self, token_id: str) -> None:
        self._carrier.request(_requests.revoke_token(token_id))


class Client:
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
        transport: httpx.BaseTransport | None = None,
        verify: Any = True,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        address = url if isinstance(url, ServerAddress) else ServerAddress(check_url(url), token)
        self._carrier = Transport(
            address,
            transport=transport,
            verify=verify,
            retry=retry or RetryPolicy(),
            headers=headers,
        )
        self.loops = Loops(self._carrier)
        self.tokens = Tokens(self._carrier)

    @property
    def address(self) -> ServerAddress:
        return self._carrier.address

    def close(self) -> None:
        self._carrier.close()

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
    """A client of the server this process belongs to; ``options`` as for :class:`Client`.

    Looks, in this order, at ``LOOPAT_URL`` with ``LOOPAT_TOKEN``, at ``JUPYTERHUB_API_TOKEN``,
    and for the running server whose pid is ``JPY_PARENT_PID``.

    Raises:
        ServerNotFound: none of the three applies.
    """
    return Client(find_server(), **options)
