"""How many connections the brokers of all sandboxes may hold together.

Each sandbox is sure of a few, whatever the others do; what it takes beyond those comes from one
store for the whole server, so that no number of sandboxes can take the files that the server's
own connections, kernels and database need.
"""

from __future__ import annotations

import resource

ASSURED = 4
"""Of each sandbox."""
FILES_EACH = 2
"""A visitor's connection, and the one made for it."""
SHARE = 4
"""The brokers may take one in so many of the files that this process may open."""
AT_MOST = 4096
"""Where that is not limited."""


class ConnectionLimiter:
    """Counts for all brokers that share it. ``most``: beyond the assured ones; by default what
    the limit on open files allows at that moment (a server may raise its own when it starts)."""

    def __init__(self, most: int | None = None) -> None:
        self._given = most
        self._beyond = 0

    @property
    def most(self) -> int:
        if self._given is not None:
            return self._given
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return AT_MOST
        return min(AT_MOST, soft // (SHARE * FILES_EACH))

    def acquire(self, held: int) -> bool:
        """Whether a sandbox that holds so many connections may take one more."""
        if held < ASSURED:
            return True
        if self._beyond >= self.most:
            return False
        self._beyond += 1
        return True

    def release(self, held: int) -> None:
        """One of a sandbox's connections ended; ``held`` are left."""
        if held >= ASSURED:
            self._beyond -= 1
