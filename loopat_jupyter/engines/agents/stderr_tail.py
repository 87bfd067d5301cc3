"""What an agent says on its stderr: read all the time; its end is kept to say why it died."""

from __future__ import annotations

import asyncio
import re

from ...loops.errors import SandboxLost
from ...loops.ports.sandbox import Process
from ..acp.errors import one_line

KEPT = 4096
FAST = 1024 * 1024
PAUSE = 0.02
"""An agent that has said more than ``FAST`` bytes is read no faster than this, so that it cannot
busy the server."""
LINES_HEARD = 20
_FAULT = re.compile(
    r"error|exception|cannot|could not|denied|fatal|fail|not found|invalid|missing|unknown",
    re.IGNORECASE,
)


class StderrTail:
    """Of one process. ``listen`` runs until that has closed its stderr."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._said = bytearray()

    async def listen(self) -> None:
        total = 0
        try:
            while data := await self._process.read_stderr():
                total += len(data)
                self._said = (self._said + data)[-KEPT:]
                if total > FAST:
                    await asyncio.sleep(PAUSE)
        except SandboxLost:
            return

    def __str__(self) -> str:
        """The line that says most: the last that tells of a fault, else the last; may be empty."""
        text = self._said.decode(errors="replace")
        lines = [line for line in map(one_line, text.splitlines()) if line][-LINES_HEARD:]
        faults = [line for line in lines if _FAULT.search(line)]
        return (faults or lines or [""])[-1]
