"""Limits the connections that the egress proxies of all sandboxes hold together.

A few are guaranteed to each sandbox, whatever the others do; beyond those there is one limit for
the whole server, so that no number of sandboxes can use up the open files that the server's own
connections, kernels and database need.
"""

from __future__ import annotations

import resource

GUARANTEED = 4
"""Connections of each sandbox that do not count against the shared limit."""
FILES_PER_CONNECTION = 2
"""The client's connection, and the one to its destination."""
FILES_SHARE = 4
"""The proxies may use one in so many of the files that this process may open."""
LIMIT_MAX = 4096
"""The highest shared limit, and the one where open files are not limited."""


class ConnectionLimiter:
    """Counts the connections of all proxies that share it.

    ``limit``: connections beyond the guaranteed ones. By default it follows from the limit on open
    files at the moment, which a server may raise when it starts.
    """

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
        """Whether a sandbox with ``held`` connections may have one more; counts it."""
        if held < GUARANTEED:
            return True
        if self._shared >= self.limit:
            return False
        self._shared += 1
        return True

    def release(self, held: int) -> None:
        """Call this when one of a sandbox's connections has ended and ``held`` are left."""
        if held >= GUARANTEED:
            self._shared -= 1
