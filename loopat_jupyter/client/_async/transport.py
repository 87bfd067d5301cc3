"""Sends calls over ``httpx.AsyncClient``, again where the retry policy says so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from .. import _http
from .._address import ServerAddress
from .._errors import LoopatError
from .._local_files import whole_file
from .._requests import ApiRequest
from .._retry import Attempts, RetryPolicy

T = TypeVar("T")


class AsyncTransport:
    """One connection pool to one server. ``answered`` are the choices resolved through it."""

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
        self.answered: set[str] = set()
        self._http = httpx.AsyncClient(transport=transport, verify=verify, **options)

    async def request(self, call: ApiRequest[T]) -> T:
        """Send ``call`` and read its answer; raises what the answer or its absence means."""
        attempts = Attempts(self.retry, call)
        while True:
            try:
                response = await self._http.request(**_http.request_options(call))
                return _http.success(call, response)
            except httpx.TransportError as error:
                delay = attempts.after(_http.unreachable(error, self.address.api_url), error)
            except LoopatError as error:
                delay = attempts.after(error)
            await asyncio.sleep(delay)

    async def open(self, call: ApiRequest[None]) -> httpx.Response:
        """Send ``call`` once and return its open stream; the caller closes it.

        Raises:
            httpx.TransportError: no answer came.
            LoopatError: an answer came, and it is no stream.
        """
        request = self._http.build_request(**_http.request_options(call))
        response = await self._http.send(request, stream=True)
        if _http.is_stream(response):
            return response
        try:
            await response.aread()
        finally:
            await response.aclose()
        raise _http.refusal(response)

    async def save(self, call: ApiRequest[None], path: Path) -> None:
        """Send ``call`` and write what comes into the file ``path``, whole or not at all."""
        attempts = Attempts(self.retry, call)
        while True:
            try:
                return await self._save(call, path)
            except httpx.TransportError as error:
                delay = attempts.after(_http.unreachable(error, self.address.api_url), error)
            except LoopatError as error:
                delay = attempts.after(error)
            await asyncio.sleep(delay)

    async def _save(self, call: ApiRequest[None], path: Path) -> None:
        options = _http.request_options(call)
        async with self._http.stream(**options) as response:
            if not response.is_success:
                await response.aread()
                raise _http.refusal(response)
            with whole_file(path) as file:
                async for chunk in response.aiter_bytes():
                    await asyncio.to_thread(file.write, chunk)

    async def aclose(self) -> None:
        await self._http.aclose()
