"""The end of an agent's stderr, from which a failure's message quotes one line.

stderr is read as long as the process lives: a process whose stderr is full would block.
"""

from __future__ import annotations

import asyncio
import re

from ...loops.errors import SandboxLost
from ...loops.ports.sandbox import Process
from .errors import one_line

TAIL_SIZE = 4096
"""Bytes that are kept."""
FULL_SPEED_BYTES = 1024 * 1024
READ_PAUSE = 0.02
"""Seconds between two reads once a process has written ``FULL_SPEED_BYTES``, so that it cannot
keep the server busy."""
LINES_SEARCHED = 20
_FAULT = re.compile(
    r"error|exception|cannot|could not|denied|fatal|fail|not found|invalid|missing|unknown",
    re.IGNORECASE,
)


class StderrTail:
    """The last bytes that one process wrote to stderr. :meth:`read` needs a task of its own."""

    def __init__(self, process: Process, ignored: re.Pattern[str] | None = None) -> None:
        """Lines that ``ignored`` matches at their beginning are never quoted."""
        self._process = process
        self._ignored = ignored
        self._tail = bytearray()

    async def read(self) -> None:
        """Read until the process has closed its stderr or the sandbox has ended."""
        total = 0
        try:
            while data := await self._process.read_stderr():
                total += len(data)
                self._tail = (self._tail + data)[-TAIL_SIZE:]
                if total > FULL_SPEED_BYTES:
                    await asyncio.sleep(READ_PAUSE)
        except SandboxLost:
            return

    @property
    def text(self) -> str:
        return self._tail.decode(errors="replace")

    def relevant_line(self) -> str:
        """The last line that names a fault, else the last line; empty if there is none."""
        lines = [line for line in map(one_line, self.text.splitlines()) if line]
        if self._ignored is not None:
            lines = [line for line in lines if not self._ignored.match(line)]
        lines = lines[-LINES_SEARCHED:]
        faults = [line for line in lines if _FAULT.search(line)]
        return (faults or lines or [""])[-1]
