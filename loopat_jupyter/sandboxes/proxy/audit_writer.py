"""The broker's way to the audit: lines are taken at once, and written one after the other.

No answer waits for its line. A sandbox that asks faster than lines can be written waits before
its next request, so what is not written yet is bounded; and when the broker is closed, nothing is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from loopat_jupyter.loops.ports.network import AuditEntry
from loopat_jupyter.sandboxes.proxy.audit_record import Audit

PENDING = 64
"""Lines that may wait to be written before the sandbox has to wait too."""

log = logging.getLogger(__name__)


class AuditWriter:
    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._lines: deque[AuditEntry] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()

    def note(self, line: AuditEntry) -> None:
        """Keep this line. Returns at once."""
        self._lines.append(line)
        if len(self._lines) >= PENDING:
            self._room.clear()
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def room(self) -> None:
        """Returns when there is room for more lines."""
        await self._room.wait()

    async def close(self) -> None:
        """Returns when every line is written."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        try:
            while self._lines:
                try:
                    await self._audit(self._lines.popleft())
                except Exception:
                    log.exception("A line of the network audit was lost")
                if len(self._lines) < PENDING:
                    self._room.set()
        finally:
            self._writing = None
