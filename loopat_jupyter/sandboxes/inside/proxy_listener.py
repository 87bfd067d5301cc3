"""The listening socket of a sandbox's broker, and what tells programs inside to use it.

Standard library only, and lean: where the sandbox has a network of its own, its supervisor makes
the door inside and hands it out over the channel; the server then takes what comes in. A socket
belongs to the network it was made in, so nothing has to be forwarded.
"""

# Lean on purpose: what this file imports is paid for in every sandbox.

from __future__ import annotations

import _socket as socket

BACKLOG = 128
NOT_PROXIED = "localhost,127.0.0.1,::1"


def open_listener() -> tuple[int, int]:
    """A listening socket on the loopback of this network: its descriptor and port."""
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    door.bind(("127.0.0.1", 0))
    door.listen(BACKLOG)
    port: int = door.getsockname()[1]
    return door.detach(), port


def send_fd(channel: int, frame: bytes, door: int) -> None:
    """Send a descriptor with a frame over the channel (a Unix socket)."""
    end = socket.socket(fileno=channel)
    try:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, door.to_bytes(4, "little"))
        end.sendmsg([frame], [rights])
    finally:
        end.detach()


def proxy_environment(port: int, credentials: str) -> dict[str, str]:
    """The variables that HTTP clients read. ``credentials`` is ``user:key@``, or empty."""
    address = f"http://{credentials}127.0.0.1:{port}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    return {
        **dict.fromkeys(names, address),
        "NO_PROXY": NOT_PROXIED,
        "no_proxy": NOT_PROXIED,
    }
