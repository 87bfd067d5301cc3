"""Which failed requests are retried, and after how many seconds. No I/O, and no sleeping."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import httpx

from ._errors import APIError, LoopatError, RateLimitError
from ._requests import ApiRequest

_TRANSIENT_STATUSES = {429, 502, 503, 504}
"""Statuses of requests that were not carried out. A plain 500 is not among them."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a client retries.

    Attributes:
        attempts: how often one request is sent, the first time included.
        stream_attempts: how many connections in a row may bring a stream nothing new.
        backoff: seconds before the second attempt; doubles from there, with jitter.
        longest: the most seconds waited between two attempts. A ``Retry-After`` beyond four
            times this is not waited for: the error is raised instead.
    """

    attempts: int = 4
    stream_attempts: int = 12
    backoff: float = 0.2
    longest: float = 8.0

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """The seconds to wait after ``failures`` failures in a row (1 or more)."""
        ceiling = min(self.longest, self.backoff * 2.0 ** min(failures - 1, 30))
        jittered = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secrecy
        return max(jittered, retry_after or 0.0)

    def is_transient(self, error: APIError) -> bool:
        """Whether the server may accept the request later, within a time worth waiting."""
        if error.status not in _TRANSIENT_STATUSES:
            return False
        return (error.retry_after or 0.0) <= 4 * self.longest


class RetryState:
    """The failures of one request so far."""

    def __init__(self, policy: RetryPolicy, request: ApiRequest[Any]) -> None:
        self._policy = policy
        self._request = request
        self._failures = 0

    def delay_after(self, error: LoopatError, cause: httpx.TransportError | None = None) -> float:
        """The seconds until the next attempt; raises ``error`` where there is none."""
        self._failures += 1
        if self._failures >= self._policy.attempts or not self._should_retry(error, cause):
            raise error from cause
        retry_after = error.retry_after if isinstance(error, APIError) else None
        return self._policy.delay(self._failures, retry_after)

    def _should_retry(self, error: LoopatError, cause: httpx.TransportError | None) -> bool:
        if isinstance(error, APIError):
            untouched = isinstance(error, RateLimitError) or error.code == "overloaded"
            return self._policy.is_transient(error) and (untouched or self._request.repeatable)
        never_arrived = isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout)
        return cause is not None and (never_arrived or self._request.repeatable)
