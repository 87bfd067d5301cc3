"""A TCP proxy on 127.0.0.1 that resets event streams after a given number of bytes."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import struct
import threading
from typing import Self


class BreakingProxy:
    """Each connection that carries an event stream takes the next of ``cuts``: so many bytes of
    the stream pass, then both sides are reset. Without one left, everything passes."""

    def __init__(self, port: int) -> None:
        self.cuts: list[int] = []
        self.event_cuts: list[tuple[int, int]] = []
        """Like ``cuts``: after so many whole events, less so many bytes of the last."""
        self.streams = 0
        self._lock = threading.Lock()
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", port)) as upstream:
                    proxy.carry(self.request, upstream)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def carry(self, client: socket.socket, upstream: socket.socket) -> None:
        up = threading.Thread(target=self._up, args=(client, upstream), daemon=True)
        up.start()
        left: int | None = None
        with contextlib.suppress(OSError):
            while data := upstream.recv(65536):
                if left is None and b"text/event-stream" in data:
                    with self._lock:
                        self.streams += 1
                        left = self.cuts.pop(0) if self.cuts else None
                        cut = self.event_cuts.pop(0) if self.event_cuts else None
                    if cut is not None:
                        client.sendall(whole_events(data, upstream, *cut))
                        break
                if left is not None:
                    client.sendall(data[:left])
                    left -= len(data)
                    if left <= 0:
                        break
                else:
                    client.sendall(data)
        reset(client)
        reset(upstream)
        up.join()

    @staticmethod
    def _up(client: socket.socket, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def whole_events(data: bytes, upstream: socket.socket, count: int, less: int) -> bytes:
    """The head of an answer and its first ``count`` events, without the last ``less`` bytes."""
    while True:
        events = re.split(rb"(?<=\n\n)", data)
        if len(events) > count:
            return b"".join(events[:count])[: -less or None]
        more = upstream.recv(65536)
        assert more, f"the stream has no {count} events"
        data += more


def reset(connection: socket.socket) -> None:
    """Close without the courtesy of a FIN."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
