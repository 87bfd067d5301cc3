"""What every benchmark is given, and the list of them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from .measures import Measure
from .processes import Child, JupyterServer, helper
from .turns import settle


@dataclass(frozen=True, slots=True)
class Run:
    """``quick``: smaller loads, the same measures."""

    quick: bool

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full


Benchmark = Callable[[Run], Awaitable[list[Measure]]]


@dataclass(frozen=True, slots=True)
class Stage:
    """A running server and the mock model it asks."""

    server: JupyterServer
    model: Child


@asynccontextmanager
async def stage(options: Sequence[str] = (), *, settled: bool = True) -> AsyncIterator[Stage]:
    """Start model and server in a temporary directory; nothing is left of them afterwards.

    ``settled``: let it run a turn first, so that what it loads in the background is loaded.
    """
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="loopat-bench-"))
        model = await stack.enter_async_context(helper("model"))
        server = JupyterServer(Path(directory), model.port, options)
        stack.push_async_callback(server.stop)
        await server.start()
        if settled:
            await settle(server)
        yield Stage(server, model)
