"""What one sandbox may reach, and what it was refused.

Where somebody may be asked (:meth:`Gatekeeper.ask_with`) a request waits at the gate, for a while
and not too many of them: a program's patience is short, and a person's answer may come in days. The
question itself stays open, so a later try can succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.ports.network import Asker, Egress

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


class Forbidden(Exception):
    """The destination is not allowed; the message is for the agent."""


class Gatekeeper:
    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._permitted: frozenset[Destination] = frozenset()
        self._refused: dict[Destination, None] = {}
        self._asker: Asker | None = None
        self._held = 0

    def allow(self, egress: Egress) -> None:
        self._egress = egress

    def permit(self, destinations: Iterable[Destination]) -> None:
        self._permitted = frozenset(destinations)

    def take_refused(self) -> Sequence[Destination]:
        refused, self._refused = list(self._refused), {}
        return refused

    def ask_with(self, asker: Asker | None) -> None:
        self._asker = asker

    async def admit(self, destination: Destination) -> None:
        """Returns when it may be reached, which a person may have to say first.

        Raises:
            Forbidden: it is not allowed.
        """
        if self.allows(destination):
            return
        if self._asker is None or self._held >= HELD:
            if len(self._refused) < REFUSED_KEPT:
                self._refused[destination] = None
            raise Forbidden(NOT_ALLOWED.format(destination=destination))
        why = await self._ask(self._asker, destination)
        if why is not None or not self.allows(destination):
            reason = why or "it is not allowed any more"
            raise Forbidden(REFUSED.format(destination=destination, why=reason))

    async def _ask(self, asker: Asker, destination: Destination) -> str | None:
        self._held += 1
        try:
            async with asyncio.timeout(HOLD) as patience:
                return await asker(destination)
        except TimeoutError:
            if not patience.expired():
                raise
            raise Forbidden(NOT_YET.format(destination=destination)) from None
        finally:
            self._held -= 1

    def allows(self, destination: Destination) -> bool:
        return destination in self._permitted or any(
            pattern.matches(destination) for pattern in self._egress.allowed
        )
