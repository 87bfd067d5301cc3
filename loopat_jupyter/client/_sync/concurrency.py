"""Where asyncio code and blocking code differ by more than ``await``: this is the blocking side.

``_async/concurrency.py`` has the same names for asyncio. Both files are written by hand,
everything else in ``_sync`` is generated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from .._choice_policy import Decision

P = ParamSpec("P")
T = TypeVar("T")

PolicyResult = Decision | None
"""What a callable policy may return."""

SseIterator = Iterator[ServerSentEvent]

sleep = time.sleep


def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function``: blocking code needs no thread for file I/O."""
    return function(*args, **kwargs)


def iterate_sse(response: httpx.Response) -> SseIterator:
    """The server-sent events of an open streaming response."""
    return EventSource(response).iter_sse()


def close_sse(lines: SseIterator) -> None:
    """Nothing: closing the response ends the iterator.

    Closing a generator that another thread is waiting in would raise ``ValueError``.
    """


def resolve_decision(result: PolicyResult) -> Decision | None:
    """The decision that a policy returned, as it is."""
    return result
