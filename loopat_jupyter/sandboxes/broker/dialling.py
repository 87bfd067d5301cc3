"""From a destination to a connection: resolved once, and that very address is dialled.

A name that leads into this machine or its private networks is refused, whatever allow-list it is
on: the server's own port, the cloud's metadata service and the neighbours are not the agent's. Of
a name with several addresses all must be public, so that no answer order decides.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from loopat_jupyter.loops.destinations import Destination

CONNECT_TIMEOUT = 10.0
READ_LIMIT = 64 * 1024

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_CARRIERS = tuple(
    ipaddress.ip_network(text)
    for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "fec0::/10")
)
"""IPv6 ranges that carry an IPv4 address inside (NAT64, 6to4, Teredo, compatible), or are local."""


class Unreachable(Exception):
    """The connection was not made. ``refused``: on purpose, and nothing can permit it."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.refused = refused


def is_public(text: str) -> bool:
    """Whether an address is one of the internet's, and no way back into the host's networks."""
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped is not None or any(address in net for net in _CARRIERS)
    ):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolve(host: str, port: int) -> Sequence[str]:
    """The system's addresses of ``host``, in its order."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True, slots=True)
class Dialler:
    """``resolve`` and ``is_public`` are the real ones but in tests."""

    resolve: Resolve = resolve
    is_public: Callable[[str], bool] = is_public

    async def dial(self, destination: Destination) -> Streams:
        """A connection to it. Raises :class:`Unreachable`."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                address = await self._address(destination)
                return await asyncio.open_connection(
                    address, destination.port, limit=READ_LIMIT, flags=socket.AI_NUMERICHOST
                )
        except TimeoutError:
            raise Unreachable(f"{destination} did not answer in {CONNECT_TIMEOUT:g} s.") from None
        except OSError as error:
            why = error.strerror or "it does not answer"
            raise Unreachable(f"{destination} could not be reached: {why}.") from None

    async def _address(self, destination: Destination) -> str:
        try:
            addresses = await self.resolve(destination.host, destination.port)
        except (OSError, UnicodeError):
            raise Unreachable(f"The name {destination.host} has no address.") from None
        if not addresses:
            raise Unreachable(f"The name {destination.host} has no address.")
        if not all(map(self.is_public, addresses)):
            raise Unreachable(
                f"{destination.host} leads into the server's own machine or private networks, "
                "which no sandbox may reach.",
                refused=True,
            )
        return addresses[0]
