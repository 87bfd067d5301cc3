"""Connects to a destination: its name is resolved once, and the addresses found are dialled.

A name with an address of this machine or of a private network is refused, on whatever allow-list it
is: the server's own port, the cloud's metadata service and other hosts there are not for the agent.
All addresses of a name must be public, so that the order of the resolver's answers does not matter.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.sandboxes.proxy.resolver import Resolver

CONNECT_TIMEOUT = 10.0
"""Seconds for the lookup and the connection together."""
READ_LIMIT = 64 * 1024
ADDRESSES_TRIED = 4
"""Addresses of one name that are tried, one after the other."""
LOCAL_ADDRESS = (
    "{host} leads into the server's own machine or private networks, which no sandbox may reach."
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        # They carry an IPv4 address inside: NAT64, 6to4 and its relays, Teredo, compatible.
        "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "192.88.99.0/24", "2001::/32", "::/96",
        # Local, or for documents: not all Pythons know.
        "fec0::/10", "192.0.0.0/24", "100.64.0.0/10", "3fff::/20", "5f00::/16",
        # A cloud's metadata service, at an address that looks public.
        "168.63.129.16/32",
    )
)  # fmt: skip


class Unreachable(Exception):
    """No connection was made. ``refused``: by this module, and no grant can allow it."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.refused = refused


def is_public(text: str) -> bool:
    """Whether an address is on the internet, and does not lead back into the host's networks."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:  # one with a zone, for example
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return False
    if any(address in net for net in _NOT_PUBLIC):
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not _is_own_address(address)


def _is_own_address(address: Address) -> bool:
    """Whether a public address is this machine's own: it is then the source address of a packet to
    itself. A datagram socket is connected for that, and nothing is sent."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ipaddress.ip_address(probe.getsockname()[0]) == address
    except OSError:  # no route leads there
        return False


@dataclass(frozen=True, slots=True)
class Dialer:
    """Opens connections to destinations. Tests replace ``resolve`` and ``is_public``."""

    resolve: Resolve = field(default_factory=Resolver)
    is_public: Callable[[str], bool] = is_public

    def refuse_local(self, destination: Destination) -> None:
        """Raises :class:`Unreachable` where the name or address itself is not public."""
        host = destination.host
        if destination.is_address:
            local = not self.is_public(host)
        else:
            local = host == "localhost" or host.endswith(".localhost")
        if local:
            raise Unreachable(LOCAL_ADDRESS.format(host=host), refused=True)

    async def dial(self, destination: Destination) -> Streams:
        """Connect to a destination within ``CONNECT_TIMEOUT``. Raises :class:`Unreachable`."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await self._connect(destination, await self._addresses(destination))
        except TimeoutError:
            raise Unreachable(f"{destination} did not answer in {CONNECT_TIMEOUT:g} s.") from None
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else "it does not answer"
            raise Unreachable(f"{destination} could not be reached: {why}.") from None

    async def _addresses(self, destination: Destination) -> list[str]:
        try:
            addresses = await self.resolve(destination.host, destination.port)
        except (OSError, UnicodeError):
            addresses = ()
        if not addresses:
            raise Unreachable(f"The name {destination.host} has no address.")
        if not all(map(self.is_public, addresses)):
            raise Unreachable(LOCAL_ADDRESS.format(host=destination.host), refused=True)
        return list(dict.fromkeys(addresses))[:ADDRESSES_TRIED]

    async def _connect(self, destination: Destination, addresses: list[str]) -> Streams:
        *first, last = addresses
        for address in first:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT / len(addresses)):
                    return await _open(address, destination.port)
            except OSError:
                continue  # the next may answer
        return await _open(last, destination.port)


async def _open(address: str, port: int) -> Streams:
    streams = await asyncio.open_connection(
        address, port, limit=READ_LIMIT, flags=socket.AI_NUMERICHOST
    )
    streams[1].transport.set_write_buffer_limits(0)
    return streams
