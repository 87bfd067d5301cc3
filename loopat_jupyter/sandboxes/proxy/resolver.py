"""Resolves names by the system's resolver, in threads that block nothing else.

``getaddrinfo`` blocks, for half a minute where a name server does not respond. Each lookup has a
thread of its own that ends with it; a sandbox has a few at once, and they take none from the
server's thread pool. The server does not wait for them when it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence

from loopat_jupyter.loops.destinations import Destination

LOOKUPS = 4
"""Lookups of one sandbox at the same time."""


class Resolver:
    """A callable that returns the addresses of a host in the system's order. It raises
    ``OSError``."""

    def __init__(self) -> None:
        self._semaphore = asyncio.Semaphore(LOOKUPS)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        if Destination(host, port).is_address:
            return [host]
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def end(outcome: list[str] | OSError) -> None:
            self._semaphore.release()
            if found.done():  # the caller was cancelled
                return
            if isinstance(outcome, OSError):
                found.set_exception(outcome)
            else:
                found.set_result(outcome)

        def look() -> None:
            outcome = _addresses(host, port)
            with contextlib.suppress(RuntimeError):  # the server has stopped meanwhile
                loop.call_soon_threadsafe(end, outcome)

        # Held until the thread ends, and not only until the caller is cancelled.
        await self._semaphore.acquire()
        try:
            threading.Thread(target=look, name="loopat-lookup", daemon=True).start()
        except RuntimeError as error:
            self._semaphore.release()
            raise OSError(str(error)) from error
        return await found


def _addresses(host: str, port: int) -> list[str] | OSError:
    try:
        rows = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    except UnicodeError as error:
        return OSError(str(error))
    return [str(address[0]) for *_, address in rows]
