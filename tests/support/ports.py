"""Ports for the servers of the tests: below the range that the kernel gives to connections.

A port that was bound and closed again is free for anybody. In the ephemeral range that is every
connection on the machine, and a server that starts a second later may find its port taken. Here
only other tests choose, and each test process begins elsewhere.
"""

from __future__ import annotations

import itertools
import os
import socket

FIRST, COUNT = 20_000, 12_000
STRIDE = 397  # processes that start side by side have pids side by side

_turn = itertools.count(os.getpid() * STRIDE)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, another one at each call."""
    for n in itertools.islice(_turn, COUNT):
        port = FIRST + n % COUNT
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port of {FIRST} to {FIRST + COUNT} is free")
