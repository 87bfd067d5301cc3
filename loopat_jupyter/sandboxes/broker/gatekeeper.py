"""What one sandbox may reach, and what it was refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.network import Egress

REFUSED_KEPT = 32
"""Refused destinations that are remembered for asking; a scan is no wish list."""
NOT_ALLOWED = (
    "{destination} is not on the allow-list of this loop. Do without it, or ask the user: the "
    "administrator can allow it in the loop's profile."
)


class Forbidden(Exception):
    """The destination is not allowed; the message is for the agent."""


class Gatekeeper:
    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._permitted: frozenset[Destination] = frozenset()
        self._refused: dict[Destination, None] = {}

    def allow(self, egress: Egress) -> None:
        self._egress = egress

    def permit(self, destinations: Iterable[Destination]) -> None:
        self._permitted = frozenset(destinations)

    def take_refused(self) -> Sequence[Destination]:
        refused, self._refused = list(self._refused), {}
        return refused

    def check(self, destination: Destination) -> None:
        """Raises :class:`Forbidden` where it is not allowed, and remembers it."""
        allowed = destination in self._permitted or any(
            pattern.matches(destination) for pattern in self._egress.allowed
        )
        if not allowed:
            if len(self._refused) < REFUSED_KEPT:
                self._refused[destination] = None
            raise Forbidden(NOT_ALLOWED.format(destination=destination))
