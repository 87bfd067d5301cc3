"""Finds the user at the other end of a connection on this machine: the one who made its socket.

The kernel's socket diagnostics (sock_diag(7)) look up one connection; where they are not built in,
the table of all connections in ``/proc/net/tcp`` is read.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from pathlib import Path

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, REQUEST = 4, 20, 1
ERROR = 2
NO_COOKIE = b"\xff" * 8
ALL_STATES = 0xFFFFFFFF
UID_AT = 16 + 4 + 48 + 12
"""Offset in the reply: after the header, the states, both ends' names, and three counters."""
TABLE = Path("/proc/net/tcp")


def peer_uid(connection: socket.socket, unknown: int | None = None) -> int | None:
    """The uid at the other end of an IPv4 connection over loopback.

    ``None`` when that end was closed already; ``unknown`` where the kernel does not tell it.
    """
    try:
        peer, own = connection.getpeername(), connection.getsockname()
    except OSError:
        return None
    try:
        return _ask_kernel(peer, own)
    except (OSError, ValueError, struct.error):
        pass  # the kernel has no diagnostics, or forbids them to this process
    try:
        return _look_up_in_table(peer, own)
    except (OSError, ValueError):
        return unknown


def _ask_kernel(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    ports = peer[1].to_bytes(2, "big") + own[1].to_bytes(2, "big")
    addresses = b"".join(socket.inet_aton(end[0]).ljust(16, b"\0") for end in (peer, own))
    name = ports + addresses + bytes(4) + NO_COOKIE
    wanted = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, ALL_STATES) + name
    header = struct.pack("=IHHII", 16 + len(wanted), SOCK_DIAG_BY_FAMILY, REQUEST, 1, 0)
    socket_type = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_NETLINK, socket_type, NETLINK_SOCK_DIAG) as kernel:
        kernel.sendto(header + wanted, (0, 0))
        reply = kernel.recv(8192)  # the kernel has queued it before sendto() returned
    _, kind = struct.unpack_from("=IH", reply)
    if kind == ERROR:
        [code] = struct.unpack_from("=i", reply, 16)
        if code == -errno.ENOENT:
            return None
        raise OSError(-code, "no diagnostics")
    if kind != SOCK_DIAG_BY_FAMILY:
        raise ValueError
    [user] = struct.unpack_from("=I", reply, UID_AT)
    return int(user)


def _look_up_in_table(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    # The kernel prints each address as the machine's own 32-bit number.
    wanted = [
        f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}:{port:04X}"
        for address, port in (peer, own)
    ]
    for line in TABLE.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == wanted:
            return int(fields[7])
    return None
