"""Where a sandbox may go: a destination is one host and one port, and has one spelling.

A name is parsed once, here, and what comes out is what is matched, resolved, dialled and shown:
lower case, IDNA for what is not ASCII, no dot at its end. What could be read in two ways is
refused: bytes outside letters, digits, hyphen and dot (the underscore too: host names have none);
labels that look like IDNA and are not; numbers that are no plain IPv4 address (``0177.0.0.1``,
``2130706433``); addresses with a zone.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import idna

NAME_MAX = 253
HTTP_PORT, HTTPS_PORT = 80, 443
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")


class BadDestination(ValueError):
    """It names no destination. The message says why, in words for the agent or administrator."""


@dataclass(frozen=True, slots=True, order=True)
class Destination:
    """One host, in its one spelling, and one port. An IPv6 address comes without brackets."""

    host: str
    port: int

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address; a name never ends with a number."""
        return ":" in self.host or self.host.rpartition(".")[2].isdigit()

    def __str__(self) -> str:
        return f"{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Destinations that are allowed: one host or, with ``suffix``, every name below it.

    ``port`` ``None``: 443 and 80.
    """

    host: str
    port: int | None = None
    suffix: bool = False

    def matches(self, destination: Destination) -> bool:
        if self.port is None and destination.port not in (HTTP_PORT, HTTPS_PORT):
            return False
        if self.port not in (None, destination.port):
            return False
        if self.suffix:
            return destination.host.endswith(f".{self.host}")
        return destination.host == self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        host = f"*.{host}" if self.suffix else host
        return host if self.port is None else f"{host}:{self.port}"


def parse_destination(authority: str, default_port: int | None = None) -> Destination:
    """``host:port`` of a request; without a port ``default_port``. Raises BadDestination."""
    host, port = _split(authority)
    if port is None:
        port = default_port
    if port is None:
        raise BadDestination("it names no port")
    return Destination(normal_host(host), port)


def parse_pattern(text: str) -> Pattern:
    """``host``, ``host:port``, ``*.suffix`` or ``*.suffix:port``. Raises BadDestination."""
    host, port = _split(text.strip())
    suffix = host.startswith("*.")
    name = normal_host(host.removeprefix("*."))
    if suffix and ("." not in name or _is_address(name)):
        raise BadDestination("what follows *. must be a domain of at least two parts")
    return Pattern(name, port, suffix)


def normal_host(host: str) -> str:
    """The one spelling of a host. Raises BadDestination."""
    if host.startswith("["):
        return _ipv6(host)
    name = _ascii(host)
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(name)
    if not all(_LABEL.fullmatch(label) and _is_idna(label) for label in labels):
        raise BadDestination("its host is no valid name")
    return name


def _split(authority: str) -> tuple[str, int | None]:
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        return authority, None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise BadDestination("its port is no number from 1 to 65535")
    return host, int(port)


def _ascii(host: str) -> str:
    """In ASCII and lower case, without the one dot that a whole name may have at its end."""
    name = host
    if not host.isascii():
        try:
            name = idna.encode(host[: NAME_MAX + 1], uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            name = ""
    name = name.lower().removesuffix(".")
    if not name or len(host) > NAME_MAX + 1 or len(name) > NAME_MAX:
        raise BadDestination("its host is no valid name")
    return name


def _is_idna(label: str) -> bool:
    """Whether the label is what it looks like: one in punycode must be the IDNA of something."""
    if not label.startswith("xn--"):
        return True
    try:
        return idna.encode(idna.decode(label)).decode() == label
    except (idna.IDNAError, UnicodeError):
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ipv4(name: str) -> str:
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        raise BadDestination("its host is a number, but no plain IPv4 address") from None


def _ipv6(host: str) -> str:
    inner = host[1:-1] if host.endswith("]") and "%" not in host else ""
    try:
        return str(ipaddress.IPv6Address(inner))
    except ValueError:
        raise BadDestination("its host is no valid IPv6 address") from None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
