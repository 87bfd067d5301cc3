"""How many connections the brokers of all sandboxes may hold together.

Each sandbox is sure of a few, whatever the others do; what it takes beyond those comes from one
store for the whole server, so that no number of sandboxes can take the files that the server's
own connections, kernels and database need.
"""

from __future__ import annotations

import resource

GUARANTEED = 4
"""Of each sandbox."""
FILES_PER_CONNECTION = 2
"""A visitor's connection, and the one made for it."""
FILES_SHARE = 4
"""The brokers may take one in so many of the files that this process may open."""
LIMIT_MAX = 4096
"""Where that is not limited."""


class ConnectionLimiter:
    """Counts for all brokers that share it. ``most``: beyond the assured ones; by default what
    the limit on open files allows at that moment (a server may raise its own when it starts)."""

    def __init__(self, limit: int | None = None) -> None:
        self._fixed_limit = limit
        self._shared = 0

    @property
    def limit(self) -> int:
        if self._fixed_limit is not None:
            return self._fixed_limit
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return LIMIT_MAX
        return min(LIMIT_MAX, soft // (FILES_SHARE * FILES_PER_CONNECTION))

    def acquire(self, held: int) -> bool:
        """Whether a sandbox that holds so many connections may take one more."""
        if held < GUARANTEED:
            return True
        if self._shared >= self.limit:
            return False
        self._shared += 1
        return True

    def release(self, held: int) -> None:
        """One of a sandbox's connections ended; ``held`` are left."""
        if held >= GUARANTEED:
            self._shared -= 1
