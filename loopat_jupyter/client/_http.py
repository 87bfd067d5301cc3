"""What both clients do with httpx, without I/O: request options, and the meaning of a response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx

from loopat_jupyter import __version__

from ._address import ServerAddress
from ._errors import ConnectionFailed, LoopatError, UnexpectedResponse, error_from_response
from ._requests import EVENT_STREAM, ApiRequest

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
STREAM_READ_TIMEOUT = 45.0
"""Seconds without a byte, pings included, after which a stream is reconnected."""


def client_options(address: ServerAddress, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """Keyword arguments for ``httpx.Client`` and ``httpx.AsyncClient`` alike."""
    sent = {"Accept": "application/json", "User-Agent": f"loopat-jupyter/{__version__}"}
    if address.authorization:
        sent["Authorization"] = address.authorization
    elif address.own:  # one without a token wants what a browser's page sends: the same value twice
        sent |= {"Cookie": "_xsrf=loopat", "X-XSRFToken": "loopat"}
    return {
        "base_url": address.api_url,
        "headers": {**sent, **(headers or {})},
        "timeout": httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT),
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
        "trust_env": not address.is_local,
        "follow_redirects": False,
    }


def request_options(request: ApiRequest[Any]) -> dict[str, Any]:
    """Keyword arguments for ``build_request``. A stream's read timeout is that of its pings."""
    options: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "params": dict(request.params) or None,
        "json": None if request.body is None else dict(request.body),
        "content": request.content,
        "headers": dict(request.headers),
    }
    if request.headers.get("Accept") == EVENT_STREAM:
        options["timeout"] = httpx.Timeout(STREAM_READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    return options


def connection_error(error: httpx.TransportError, url: str) -> ConnectionFailed:
    detail = str(error) or type(error).__name__
    return ConnectionFailed(f"no answer from {url}: {detail}")


def error_of(response: httpx.Response) -> LoopatError:
    """The exception for a response (already read) that is no success."""
    return error_from_response(
        response.status_code,
        _json(response),
        url=_url_without_query(response),
        retry_after=response.headers.get("Retry-After"),
    )


def parse_success(request: ApiRequest[T], response: httpx.Response) -> T:
    """The parsed body of ``response`` (already read). Raises its error where it is no success."""
    if not response.is_success:
        raise error_of(response)
    try:
        return request.parse(_body(request, response))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnexpectedResponse(
            f"{_url_without_query(response)} did not answer as the Loop API does",
            status=response.status_code,
        ) from error


def _body(request: ApiRequest[Any], response: httpx.Response) -> Any:
    if request.decode_as == "bytes":
        return response.content
    return response.text if request.decode_as == "text" else _json(response)


def is_stream(response: httpx.Response) -> bool:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    return bool(response.status_code == 200 and kind == EVENT_STREAM)


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _url_without_query(response: httpx.Response) -> str:
    """The URL without its query, so that no token gets into an error message."""
    return str(response.request.url.copy_with(query=None))
