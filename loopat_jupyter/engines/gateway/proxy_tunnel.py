"""A connection to a provider: direct, or through the proxy that the server's environment names.

As for every other request of the server, ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and
``NO_PROXY`` hold, and this machine itself is never reached through a proxy. A proxy gets a
``CONNECT`` for a TLS provider, and the whole URL of each request for another one.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

import h11

from ...loops.errors import ConfigError
from ...loops.ports.network import Headers
from ..models import http as models_http

READ_LIMIT = 64 * 1024


class UpstreamAddress(NamedTuple):
    """The host and port of a provider."""

    tls: bool
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UpstreamStreams:
    """An open connection. ``prefix`` and ``headers`` go before the target and into the head of each
    request, for a proxy that forwards requests."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    prefix: str = ""
    headers: Headers = ()


async def open_connection(address: UpstreamAddress, tls: ssl.SSLContext) -> UpstreamStreams:
    """Connect, with TLS where the address has it.

    Raises:
        OSError: the provider or the proxy could not be reached, or the proxy refused.
    """
    proxy = proxy_for(address)
    if proxy is None:
        reader, writer = await asyncio.open_connection(
            address.host, address.port, ssl=tls if address.tls else None, limit=READ_LIMIT
        )
        writer.transport.set_write_buffer_limits(0)
        return UpstreamStreams(reader, writer)
    if proxy.scheme not in ("http", "") or not proxy.hostname:
        raise OSError("the server's environment names a proxy that is no http:// one")
    reader, writer = await asyncio.open_connection(
        proxy.hostname, proxy.port or 80, limit=READ_LIMIT
    )
    try:
        if address.tls:
            await _request_tunnel(address, proxy, reader, writer)
            await writer.start_tls(tls, server_hostname=address.host)
    except BaseException:
        writer.transport.abort()
        raise
    writer.transport.set_write_buffer_limits(0)
    if address.tls:
        return UpstreamStreams(reader, writer)
    return UpstreamStreams(
        reader, writer, f"http://{address.authority}", _proxy_authorization(proxy)
    )


def proxy_for(address: UpstreamAddress) -> SplitResult | None:
    """The proxy for ``address``; ``None`` where it is reached directly.

    Raises:
        OSError: the environment names one of a kind that is not known.
    """
    scheme = "https" if address.tls else "http"
    try:
        named = models_http.proxy_for(f"{scheme}://{address.authority}")
    except ConfigError as error:
        raise OSError(error.message) from error
    return urlsplit(named) if named else None


async def _request_tunnel(
    address: UpstreamAddress,
    proxy: SplitResult,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Have the proxy open a tunnel (``CONNECT``). Raises ``OSError``."""
    http = h11.Connection(h11.CLIENT)
    target = f"{address.authority.removesuffix(f':{address.port}')}:{address.port}"
    headers = [("host", target), *_proxy_authorization(proxy)]
    writer.write(http.send(h11.Request(method="CONNECT", target=target, headers=headers)) or b"")
    writer.write(http.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    try:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await reader.read(READ_LIMIT))
    except h11.RemoteProtocolError as error:
        raise OSError("the server's proxy sent no valid HTTP/1.1") from error
    if not isinstance(event, h11.Response) or event.status_code // 100 != 2:
        raise OSError("the server's proxy refused the way there")


def _proxy_authorization(proxy: SplitResult) -> Headers:
    if proxy.username is None:
        return ()
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return [("proxy-authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")]
