"""Sends API requests with httpx, and again where the retry policy says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from .. import _http
from .._address import ServerAddress
from .._errors import LoopatError
from .._files import atomic_write
from .._requests import ApiRequest
from .._retry import RetryPolicy, RetryState
from .concurrency import run_blocking, sleep

T = TypeVar("T")


class AsyncTransport:
    """One connection pool to one server, shared by all handles of a client.

    Attributes:
        resolved_choices: the ids of the choices that were resolved through this transport.
    """

    def __init__(
        self,
        address: ServerAddress,
        *,
        transport: httpx.AsyncBaseTransport | None,
        verify: Any,
        retry: RetryPolicy,
        headers: Mapping[str, str] | None,
    ) -> None:
        if transport is None and address.socket:
            transport = httpx.AsyncHTTPTransport(uds=address.socket)
        options = _http.client_options(address, headers)
        self.address = address
        self.retry = retry
        self.resolved_choices: set[str] = set()
        self._http = httpx.AsyncClient(transport=transport, verify=verify, **options)

    async def request(self, request: ApiRequest[T]) -> T:
        """Send ``request`` and return its parsed response.

        Raises:
            LoopatError: the response, or its absence after the last attempt.
        """
        state = RetryState(self.retry, request)
        while True:
            try:
                response = await self._http.request(**_http.request_options(request))
                return _http.parse_success(request, response)
            except httpx.TransportError as error:
                failure = _http.connection_error(error, self.address.api_url)
                delay = state.delay_after(failure, error)
            except LoopatError as error:
                delay = state.delay_after(error)
            await sleep(delay)

    async def open_stream(self, request: ApiRequest[None]) -> httpx.Response:
        """Send ``request`` once and return its open event stream; the caller closes it.

        Raises:
            httpx.TransportError: there was no response.
            LoopatError: the response is no event stream.
        """
        sent = self._http.build_request(**_http.request_options(request))
        response = await self._http.send(sent, stream=True)
        if _http.is_stream(response):
            return response
        try:
            await response.aread()
        finally:
            await response.aclose()
        raise _http.error_of(response)

    async def download(self, request: ApiRequest[None], path: Path) -> None:
        """Send ``request`` and write the body to the file ``path``, completely or not at all."""
        state = RetryState(self.retry, request)
        while True:
            try:
                return await self._download_once(request, path)
            except httpx.TransportError as error:
                failure = _http.connection_error(error, self.address.api_url)
                delay = state.delay_after(failure, error)
            except LoopatError as error:
                delay = state.delay_after(error)
            await sleep(delay)

    async def _download_once(self, request: ApiRequest[None], path: Path) -> None:
        options = _http.request_options(request)
        async with self._http.stream(**options) as response:
            if not response.is_success:
                await response.aread()
                raise _http.error_of(response)
            with atomic_write(path) as file:
                async for chunk in response.aiter_bytes():
                    await run_blocking(file.write, chunk)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()
