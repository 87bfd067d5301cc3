"""The port between the turn loop and a model, whoever serves it.

A model is given the whole conversation with each call, and keeps nothing between calls. It shows
its deltas as they come and waits for each to be shown; then it returns the whole response. It does
not retry: :mod:`..builtin.model_call` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .messages import Message, ModelReply


@dataclass(frozen=True, slots=True)
class ModelText:
    text: str


@dataclass(frozen=True, slots=True)
class ModelThinking:
    text: str


OnDelta = Callable[[ModelText | ModelThinking], Awaitable[None]]
"""Shows one delta; it is stored when this returns."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model is told of it; ``schema`` is the JSON schema of its input."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    instructions: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = field(default=())


class ModelError(Exception):
    """A model call failed. The message is the provider's own, without any secret.

    ``retryable``: the same call may succeed later; ``retry_after``: the seconds to wait that the
    provider asks for. ``too_long``: the conversation does not fit into the model's window.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        too_long: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after
        self.too_long = too_long


class Model(Protocol):
    """A model of a provider, ready to be called."""

    @property
    def name(self) -> str:
        """``provider/model``, as in the configuration."""

    @property
    def window(self) -> int:
        """The context window in tokens, request and response together."""

    async def complete(self, request: ModelRequest, show: OnDelta) -> ModelReply:
        """Call the model, and show its deltas as they come. Raises :class:`ModelError`, also after
        deltas were shown."""
