"""The address of a server and the credentials for it. Nothing here opens a connection."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

API_PATH = "loopat/api/v1/"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A server's base URL (or its API's), a token of either kind, and how it was found.

    Attributes:
        url: the base URL of the Jupyter server or of the Loop API.
        token: a ``la_…`` API token, or the Jupyter server's (or a Hub's) token.
        found_by: the source of this address: ``given``, or the variable that named it.
        socket: the path of the Unix socket, where the server listens on one.
        own: it is the server on this machine that this process belongs to. Its token must not leave
            the machine, so no proxy is ever asked the way.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    found_by: str = "given"
    socket: str | None = None
    own: bool = False

    @property
    def api_url(self) -> str:
        """The base URL of the Loop API, ending in a slash."""
        base = self.url.split("?", 1)[0].split("#", 1)[0].rstrip("/") + "/"
        return base if base.endswith("/" + API_PATH) else base + API_PATH

    @property
    def server_url(self) -> str:
        """The Jupyter server's own base URL, ending in a slash, for its other APIs."""
        return self.api_url.removesuffix(API_PATH)

    @property
    def authorization(self) -> str | None:
        """The value of the ``Authorization`` header. With it no cookie or XSRF token is needed."""
        if not self.token:
            return None
        scheme = "Bearer" if self.token.startswith("la_") else "token"
        return f"{scheme} {self.token}"

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine: then the proxies of the environment are not used."""
        host = urlsplit(self.url).hostname or ""
        if self.own or self.socket is not None or host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def check_url(url: str) -> str:
    """``url`` unchanged. Raises ``ValueError`` where it is no http(s) URL with a host."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// or https:// address")
    return url
