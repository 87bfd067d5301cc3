"""Where a server is and how to be let in. Pure: nothing here opens a connection."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

API_PATH = "loopat/api/v1/"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A server's base URL (or its API's), a token of either kind, and how it was found.

    ``socket`` is the path of a Unix socket where the server listens on one.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    found_by: str = "given"
    socket: str | None = None

    @property
    def api_url(self) -> str:
        """The base of all calls, ending in a slash."""
        base = self.url.split("?", 1)[0].split("#", 1)[0].rstrip("/") + "/"
        return base if base.endswith("/" + API_PATH) else base + API_PATH

    @property
    def authorization(self) -> str | None:
        """The ``Authorization`` header. With one, no cookie and no XSRF token is needed."""
        if not self.token:
            return None
        scheme = "Bearer" if self.token.startswith("la_") else "token"
        return f"{scheme} {self.token}"

    @property
    def is_local(self) -> bool:
        """On this machine: environment proxies must not be asked to carry it."""
        host = urlsplit(self.url).hostname or ""
        if self.socket is not None or host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def check_url(url: str) -> str:
    """``url`` itself, when it is one that a server can have. Raises ``ValueError``."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// or https:// address")
    return url
