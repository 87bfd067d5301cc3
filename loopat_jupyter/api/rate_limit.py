"""The rate limit: a token bucket for each API token.

A bucket holds one minute's worth of requests and refills evenly, so a burst is allowed and a
steady stream is held to the rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ..loops.errors import TooManyRequests


class RateLimiter:
    """``rate`` is in requests per minute and API token; 0 turns the limit off."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, token_id: str) -> None:
        """Count one request. Raises ``TooManyRequests`` with the seconds to wait."""
        if self._rate <= 0:
            return
        now = self._clock()
        level, since = self._buckets.get(token_id, (float(self._rate), now))
        level = min(float(self._rate), level + (now - since) * self._rate / 60)
        if level < 1:
            self._buckets[token_id] = (level, now)
            wait = math.ceil((1 - level) * 60 / self._rate)
            raise TooManyRequests(
                f"This token may make {self._rate} requests a minute. Nothing was done: "
                f"try again in {wait} s.",
                retry_after=wait,
            )
        self._buckets[token_id] = (level - 1, now)
        if len(self._buckets) > 10_000:
            self._forget_full(now)

    def _forget_full(self, now: float) -> None:
        full = [key for key, (_, since) in self._buckets.items() if now - since > 60]
        for key in full:
            del self._buckets[key]
