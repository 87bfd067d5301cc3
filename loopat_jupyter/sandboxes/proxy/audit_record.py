"""What is noted about one request while it runs; one line of the loop's audit in the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.ports.network import AuditEntry, RequestOutcome

Audit = Callable[[AuditEntry], Awaitable[None]]
"""Keeps one line. Raises nothing."""

SHOWN = 300
"""Characters of a name that could not be parsed, as it was asked for."""


async def discard(_request: AuditEntry) -> None:
    """The audit of a sandbox whose loops have none."""


@dataclass(slots=True)
class AuditRecord:
    loop_id: str
    started_at: str
    asked: str
    """The request's target as it was sent, for what names no destination."""
    kind: Literal["connect", "http", "model"] = "http"
    destination: Destination | None = None
    verdict: RequestOutcome = "refused"
    reason: str = ""
    bytes_out: int = 0
    bytes_in: int = 0

    def break_off(self, why: str) -> None:
        """It was ended from inside, or with the sandbox; not refused, and not for its answer."""
        if self.verdict == "refused" and not self.reason:
            self.verdict = "failed"
        self.reason = self.reason or why

    def line(self) -> AuditEntry:
        destination = self.destination or Destination(self.asked[:SHOWN], 0)
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
