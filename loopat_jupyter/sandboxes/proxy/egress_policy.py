"""What one sandbox may reach, and what it was refused.

Where somebody may be asked (:meth:`EgressPolicy.ask_with`) a request waits at the gate, for a while
and not too many of them: a program's patience is short, and a person's answer may come in days. The
question itself stays open, so a later try can succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.ports.network import ApprovalCallback, Egress

REFUSED_KEPT = 32
"""Refused destinations that are remembered for asking; a scan is no wish list."""
HOLD = 60.0
"""Seconds for which a request waits for a person."""
HELD = 16
"""Requests that wait at the same time; they must leave room for the model's."""
NOT_ALLOWED = (
    "{destination} is not on the allow-list of this loop. Do without it, or ask the user: the "
    "administrator can allow it in the loop's profile."
)

NOT_YET = (
    "The user is being asked whether {destination} may be reached, and has not answered yet. Go on "
    "with something else, and try again later."
)
REFUSED = "{destination} was refused: {why}"


class DestinationDenied(Exception):
    """The destination is not allowed; the message is for the agent."""


class EgressPolicy:
    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._permitted: frozenset[Destination] = frozenset()
        self._refused: dict[Destination, None] = {}
        self._asker: ApprovalCallback | None = None
        self._held = 0

    def set_policy(self, egress: Egress) -> None:
        self._egress = egress

    def set_grants(self, destinations: Iterable[Destination]) -> None:
        self._permitted = frozenset(destinations)

    def drain_denied(self) -> Sequence[Destination]:
        refused, self._refused = list(self._refused), {}
        return refused

    def set_approval_callback(self, asker: ApprovalCallback | None) -> None:
        self._asker = asker

    async def authorize(self, destination: Destination) -> None:
        """Returns when it may be reached, which a person may have to say first.

        Raises:
            Forbidden: it is not allowed.
        """
        if self.allows(destination):
            return
        if self._asker is None or self._held >= HELD:
            if len(self._refused) < REFUSED_KEPT:
                self._refused[destination] = None
            raise DestinationDenied(NOT_ALLOWED.format(destination=destination))
        why = await self._ask(self._asker, destination)
        if why is not None or not self.allows(destination):
            reason = why or "it is not allowed any more"
            raise DestinationDenied(REFUSED.format(destination=destination, why=reason))

    async def _ask(self, asker: ApprovalCallback, destination: Destination) -> str | None:
        self._held += 1
        try:
            async with asyncio.timeout(HOLD) as patience:
                return await asker(destination)
        except TimeoutError:
            if not patience.expired():
                raise
            raise DestinationDenied(NOT_YET.format(destination=destination)) from None
        finally:
            self._held -= 1

    def allows(self, destination: Destination) -> bool:
        return destination in self._permitted or any(
            pattern.matches(destination) for pattern in self._egress.allowed
        )
