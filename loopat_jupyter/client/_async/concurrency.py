"""Where asyncio code and blocking code differ by more than ``await``: this is the asyncio side.

``_sync/concurrency.py`` has the same names for blocking code. Both files are written by hand,
everything else in ``_sync`` is generated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable

import httpx
from httpx_sse import EventSource, ServerSentEvent

from .._choice_policy import Decision

PolicyResult = Awaitable[Decision | None] | Decision | None
"""What a callable policy may return."""

SseIterator = AsyncGenerator[ServerSentEvent, None]

sleep = asyncio.sleep

run_blocking = asyncio.to_thread
"""Run file I/O in a thread, so that it does not hold the event loop up."""


def iterate_sse(response: httpx.Response) -> SseIterator:
    """The server-sent events of an open streaming response."""
    return EventSource(response).aiter_sse()


async def close_sse(lines: SseIterator) -> None:
    """Close the generator now: left to the garbage collector it would warn at shutdown."""
    await lines.aclose()


async def resolve_decision(result: PolicyResult) -> Decision | None:
    """The decision that a policy returned, awaited where the policy is a coroutine function."""
    return await result if isinstance(result, Awaitable) else result
