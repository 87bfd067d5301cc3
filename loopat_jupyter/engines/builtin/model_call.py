"""One call of a model: streamed to the host as it comes, and tried again where that can help.

A call is repeated only while nothing of its answer has been shown; afterwards a repetition would
say things twice. Waiting times grow, with jitter, unless the provider says how long to wait; the
whole of it is bounded. Everything stops at once when the turn is cancelled.
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
    """How long a model that does not answer is asked again. Times in seconds."""

    attempts: int = 6
    total: float = 120.0
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def wait(self, attempt: int, wish: float | None) -> float:
        """How long to wait after the ``attempt``-th failure (from 1); ``wish``: the provider's."""
        if wish is not None:
            return max(wish, 0.0)
        longest = min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


async def call_model(
    model: Model, request: ModelRequest, host: TurnHost, patience: ModelRetryPolicy
) -> ModelReply:
    """The model's answer, its deltas already shown.

    Raises:
        ModelError: ``too_long`` or ``maybe_too_long``, and nothing has been shown.
        TurnFailed: the provider did not answer, or its answer broke off.
    """
    give_up = time.monotonic() + patience.total
    attempt = 0
    while True:
        attempt += 1
        shown = _DeltaSink(host)
        try:
            return await _stream(model, request, shown)
        except ModelError as error:
            if (error.too_long or error.maybe_too_long) and not shown.anything:
                raise
            wait = patience.wait(attempt, error.retry_after)
            late = attempt >= patience.attempts or time.monotonic() + wait > give_up
            if shown.anything or not error.retryable or late:
                if shown.anything:
                    raise TurnFailure(
                        f"The answer of {model.name} broke off: {error.message}"
                    ) from error
                raise call_failure(model, error, attempt) from error
        await asyncio.sleep(wait)


class _DeltaSink:
    """Passes deltas on as whole characters, and knows whether there were any."""

    def __init__(self, host: TurnHost) -> None:
        self._host = host
        self._text, self._thinking = SurrogateJoiner(), SurrogateJoiner()
        self.anything = False

    async def show(self, event: ModelText | ModelThinking) -> None:
        if isinstance(event, ModelText):
            await self._say(self._host.text, self._text.add(event.text))
        else:
            await self._say(self._host.thinking, self._thinking.add(event.text))

    async def end(self) -> None:
        await self._say(self._host.thinking, self._thinking.end())
        await self._say(self._host.text, self._text.end())

    async def _say(self, say: Callable[[str], Awaitable[None]], text: str) -> None:
        if text:
            self.anything = True
            await say(text)


async def _stream(model: Model, request: ModelRequest, shown: _DeltaSink) -> ModelReply:
    response = await model.complete(request, shown.show)
    await shown.end()
    return response


def call_failure(model: Model, error: ModelError, attempts: int = 1) -> TurnFailure:
    """The end of a turn whose model could not be called."""
    tried = f" (tried {attempts} times)" if attempts > 1 else ""
    return TurnFailure(f"{model.name} did not answer{tried}: {error.message}")
