"""Which destinations a sandbox may reach, and which it was denied.

Where a person can be asked (:meth:`EgressPolicy.set_approval_callback`) a request waits for the
decision, but for a bounded time and only a bounded number of them: programs time out, and a person
may take days. The question stays open, so that a later request can succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.ports.network import ApprovalCallback, Egress

DENIED_MAX = 32
"""Denied destinations that are recorded; a scan must not become as many questions."""
APPROVAL_TIMEOUT = 60.0
"""Seconds for which a request waits for a person's decision."""
WAITING_MAX = 16
"""Requests that wait at the same time; they must leave connections for the model gateway."""
NOT_ALLOWED = (
    "{destination} is not on the allow-list of this loop. Do without it, or ask the user: the "
    "administrator can allow it in the loop's profile."
)

NOT_ANSWERED = (
    "The user is being asked whether {destination} may be reached, and has not answered yet. Go on "
    "with something else, and try again later."
)
REFUSED = "{destination} was refused: {why}"


class DestinationDenied(Exception):
    """The destination is not allowed; the message is for the agent."""


class EgressPolicy:
    """Decides by the profile's allow-list, by grants, and by asking a person."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._grants: frozenset[Destination] = frozenset()
        self._denied: dict[Destination, None] = {}
        self._approve: ApprovalCallback | None = None
        self._waiting = 0

    def set_policy(self, egress: Egress) -> None:
        self._egress = egress

    def set_grants(self, destinations: Iterable[Destination]) -> None:
        self._grants = frozenset(destinations)

    def drain_denied(self) -> Sequence[Destination]:
        refused, self._denied = list(self._denied), {}
        return refused

    def set_approval_callback(self, callback: ApprovalCallback | None) -> None:
        self._approve = callback

    async def authorize(self, destination: Destination) -> None:
        """Returns when the destination may be reached; a person may have to decide first.

        Raises:
            DestinationDenied: it is not allowed.
        """
        if self.allows(destination):
            return
        if self._approve is None or self._waiting >= WAITING_MAX:
            if len(self._denied) < DENIED_MAX:
                self._denied[destination] = None
            raise DestinationDenied(NOT_ALLOWED.format(destination=destination))
        why = await self._wait_for_approval(self._approve, destination)
        if why is not None or not self.allows(destination):
            reason = why or "it is not allowed any more"
            raise DestinationDenied(REFUSED.format(destination=destination, why=reason))

    async def _wait_for_approval(
        self, approve: ApprovalCallback, destination: Destination
    ) -> str | None:
        self._waiting += 1
        try:
            async with asyncio.timeout(APPROVAL_TIMEOUT) as timeout:
                return await approve(destination)
        except TimeoutError:
            if not timeout.expired():
                raise
            raise DestinationDenied(NOT_ANSWERED.format(destination=destination)) from None
        finally:
            self._waiting -= 1

    def allows(self, destination: Destination) -> bool:
        return destination in self._grants or any(
            pattern.matches(destination) for pattern in self._egress.allowed
        )
