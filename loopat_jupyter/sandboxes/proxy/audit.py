"""The audit of a sandbox's requests: a record for each while it runs, and a writer of entries.

No response waits for its entry. A sandbox that sends requests faster than entries can be written
waits before its next request, so the entries in memory are bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.ports.network import AuditEntry, RequestOutcome

Audit = Callable[[AuditEntry], Awaitable[None]]
"""Stores one entry. Raises nothing."""

PENDING = 64
"""Entries that may wait to be written before the sandbox has to wait too."""

TARGET_MAX = 300
"""Characters that are kept of a request target that could not be parsed."""


log = logging.getLogger(__name__)


async def discard(_request: AuditEntry) -> None:
    """An :data:`Audit` that stores nothing."""


@dataclass(slots=True)
class AuditRecord:
    """What is known of one request; it becomes an entry when the request has ended."""

    loop_id: str
    started_at: str
    target: str
    """The request's target as it was sent, used where it names no destination."""
    kind: Literal["connect", "http", "model"] = "http"
    destination: Destination | None = None
    verdict: RequestOutcome = "refused"
    reason: str = ""
    bytes_out: int = 0
    bytes_in: int = 0

    def set_interrupted(self, why: str) -> None:
        """Set the outcome of a request that was cut off, unless it was refused before."""
        if self.verdict == "refused" and not self.reason:
            self.verdict = "failed"
        self.reason = self.reason or why

    def entry(self) -> AuditEntry:
        destination = self.destination or Destination(self.target[:TARGET_MAX], 0)
        return AuditEntry(
            loop_id=self.loop_id,
            started_at=self.started_at,
            kind=self.kind,
            host=destination.host,
            port=destination.port,
            verdict=self.verdict,
            reason=self.reason,
            bytes_out=self.bytes_out,
            bytes_in=self.bytes_in,
        )


class AuditWriter:
    """Writes entries one after the other, in a task of its own."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._entries: deque[AuditEntry] = deque()
        self._task: asyncio.Task[None] | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()

    def append(self, entry: AuditEntry) -> None:
        """Queue an entry. Returns at once."""
        self._entries.append(entry)
        if len(self._entries) >= PENDING:
            self._has_room.clear()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def wait_for_room(self) -> None:
        """Returns when fewer than ``PENDING`` entries wait."""
        await self._has_room.wait()

    async def close(self) -> None:
        """Returns when every entry is written."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _write(self) -> None:
        try:
            while self._entries:
                try:
                    await self._audit(self._entries.popleft())
                except Exception:
                    log.exception("An entry of the network audit was lost")
                if len(self._entries) < PENDING:
                    self._has_room.set()
        finally:
            self._task = None
