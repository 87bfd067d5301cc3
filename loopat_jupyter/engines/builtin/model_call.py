"""One call of a model: streamed to the host as it comes, and retried where that can help.

A call is retried only while nothing of its response has been shown; a repetition would show text
twice. Delays grow, with jitter, unless the provider says how long to wait; their sum is bounded.
Cancelling the turn ends the call at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...loops.errors import TurnFailure
from ...loops.ports.engine import TurnHost
from ..models.messages import ModelReply
from ..models.port import Model, ModelError, ModelRequest, ModelText, ModelThinking
from ..models.sanitize import SurrogateJoiner


@dataclass(frozen=True, slots=True)
class ModelRetryPolicy:
    """How often and how long a failed model call is repeated. Times in seconds."""

    attempts: int = 6
    total: float = 120.0
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def delay(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after the ``attempt``-th failure, counted from 1. ``retry_after``: what
        the provider asks for."""
        if retry_after is not None:
            return max(retry_after, 0.0)
        longest = min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


async def call_model(
    model: Model, request: ModelRequest, host: TurnHost, policy: ModelRetryPolicy
) -> ModelReply:
    """Call the model; its deltas are shown when this returns.

    Raises:
        ModelError: ``too_long`` or ``maybe_too_long``, and nothing has been shown.
        TurnFailure: the provider did not respond, or its response broke off.
    """
    give_up = time.monotonic() + policy.total
    attempt = 0
    while True:
        attempt += 1
        sink = _DeltaSink(host)
        try:
            return await _stream(model, request, sink)
        except ModelError as error:
            if (error.too_long or error.maybe_too_long) and not sink.has_shown:
                raise
            delay = policy.delay(attempt, error.retry_after)
            late = attempt >= policy.attempts or time.monotonic() + delay > give_up
            if sink.has_shown:
                raise TurnFailure(
                    f"The answer of {model.name} broke off: {error.message}"
                ) from error
            if not error.retryable or late:
                raise call_failure(model, error, attempt) from error
        await asyncio.sleep(delay)


class _DeltaSink:
    """Passes deltas to the host as whole characters, and notes whether there were any."""

    def __init__(self, host: TurnHost) -> None:
        self._host = host
        self._text, self._thinking = SurrogateJoiner(), SurrogateJoiner()
        self.has_shown = False

    async def show(self, event: ModelText | ModelThinking) -> None:
        if isinstance(event, ModelText):
            await self._forward(self._host.text, self._text.add(event.text))
        else:
            await self._forward(self._host.thinking, self._thinking.add(event.text))

    async def end(self) -> None:
        await self._forward(self._host.thinking, self._thinking.end())
        await self._forward(self._host.text, self._text.end())

    async def _forward(self, show: Callable[[str], Awaitable[None]], text: str) -> None:
        if text:
            self.has_shown = True
            await show(text)


async def _stream(model: Model, request: ModelRequest, sink: _DeltaSink) -> ModelReply:
    response = await model.complete(request, sink.show)
    await sink.end()
    return response


def call_failure(model: Model, error: ModelError, attempts: int = 1) -> TurnFailure:
    """The failure of a turn whose model could not be called."""
    tried = f" (tried {attempts} times)" if attempts > 1 else ""
    return TurnFailure(f"{model.name} did not answer{tried}: {error.message}")
