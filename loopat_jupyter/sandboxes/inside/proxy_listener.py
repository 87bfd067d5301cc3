"""The listening socket of a sandbox's egress proxy, and the variables that point programs to it.

Where the sandbox has its own network namespace, the supervisor opens the socket inside and sends
it to the server over the channel; the server then accepts the connections. A socket belongs to the
network namespace it was made in, so no process inside has to forward anything.
"""

from __future__ import annotations

import _socket as socket

BACKLOG = 128
NO_PROXY = "localhost,127.0.0.1,::1"


def open_listener() -> tuple[int, int]:
    """Listen on the loopback interface of this network namespace; the descriptor and the port."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    port: int = listener.getsockname()[1]
    return listener.detach(), port


def send_fd(channel: int, frame: bytes, fd: int) -> None:
    """Send a descriptor with a frame over the channel (a Unix socket)."""
    connection = socket.socket(fileno=channel)
    try:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, "little"))
        connection.sendmsg([frame], [rights])
    finally:
        connection.detach()


def proxy_environment(port: int, credentials: str) -> dict[str, str]:
    """The proxy variables that HTTP clients read. ``credentials`` is ``user:key@``, or empty."""
    address = f"http://{credentials}127.0.0.1:{port}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    return {
        **dict.fromkeys(names, address),
        "NO_PROXY": NO_PROXY,
        "no_proxy": NO_PROXY,
    }
