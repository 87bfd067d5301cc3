"""The port between the turn loop and a model, whoever serves it.

A model is asked with everything it is to know. It shows its deltas as they come, and waits for each
to be shown; then it returns the whole answer. It keeps nothing between calls. It does not retry:
:mod:`.asking` does.
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
"""Shows one delta; it is on disk when this returns."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as it is shown to a model; ``schema`` is the JSON schema of its input."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    instructions: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = field(default=())


class ModelError(Exception):
    """A call failed. The message is the provider's own words, without any secret.

    ``retryable``: the same call may succeed later; ``retry_after`` is the provider's wish in
    seconds. ``too_long``: the conversation does not fit into
    the model's window, whose size in tokens is ``window`` where the provider named it;
    ``maybe_too_long``: its words can be read so. ``output_limit``: more output tokens were asked
    for than it gives. ``status`` and ``detail`` are its answer, for who can ask in another way.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        too_long: bool = False,
        maybe_too_long: bool = False,
        window: int | None = None,
        output_limit: int | None = None,
        status: int = 0,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after
        self.too_long = too_long
        self.maybe_too_long = maybe_too_long
        self.window = window
        self.output_limit = output_limit
        self.status = status
        self.detail = detail


class Model(Protocol):
    """A model of a provider, ready to be asked."""

    @property
    def name(self) -> str:
        """``provider/model``, as in the configuration."""

    @property
    def window(self) -> int:
        """The context window in tokens, what is sent and what is answered together."""

    async def complete(self, request: ModelRequest, show: OnDelta) -> ModelReply:
        """Ask, and show the answer while it comes. Raises :class:`ModelError` at any point."""
