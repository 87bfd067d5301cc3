"""The engine port: what an engine and the host of its turns promise each other.

The domain (:mod:`loopat_jupyter.loops`) defines these protocols and imports no implementation.
:mod:`loopat_jupyter.engines` implements :class:`Engine` and imports nothing else of the domain than
the ports, :mod:`loopat_jupyter.loops.destinations` and :mod:`loopat_jupyter.loops.errors`.

Invariants
----------
* An engine reports through its :class:`TurnHost` only. Every call on the host is on disk
  before it returns, so an engine that dies between two calls has lost nothing it reported.
* A turn is *resumable*: what an engine needs to resume it writes with :meth:`TurnHost.journal`,
  and finds again in :attr:`Turn.journal`. ``TurnHost.permission`` and ``TurnHost.question``
  raise :class:`TurnSuspended` when a person has to be asked; the engine lets it pass, the turn
  is stored as ``waiting`` and holds no process. When the answer comes (now, or after a restart)
  ``Engine.run`` is called again with the same turn; the engine finds its place from its journal,
  asks the same question with the same ``tool_use_id`` again, and gets the answer.
* Interrupt is cancellation of the task in ``Engine.run``, and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from .network import Egress
from .sandbox import FolderMount, Sandbox

PermissionMode = Literal["default", "acceptEdits", "bypassPermissions", "plan", "dontAsk", "auto"]
ToolKind = Literal["read", "edit", "other", "network"]
"""``network``: a destination that is on no allow-list; asked where the mode asks, else refused."""
TurnState = Literal["queued", "running", "waiting", "done", "interrupted", "error", "cancelled"]


@dataclass(frozen=True, slots=True)
class PastTurn:
    """An earlier turn of the same loop, as the next one's history."""

    turn_id: str
    content: str
    state: TurnState
    error_code: str | None
    journal: tuple[dict[str, Any], ...]
    text: str
    """The turn's visible text. Of a turn that was cut off, whatever had been shown."""
    engine: str = "builtin"
    """The name of the engine that ran it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn an engine is to run, or to resume when ``journal`` is not empty."""

    turn_id: str
    loop_id: str
    owner: str
    content: str
    permission_mode: PermissionMode
    vault: str
    profiles: tuple[str, ...]
    journal: tuple[dict[str, Any], ...]
    folders: tuple[FolderMount, ...] = ()
    egress: Egress = field(default_factory=Egress)


@dataclass(slots=True)
class TurnUsage:
    """Token counts; a turn's are the sums over its model calls. ``cost_usd`` where known."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None

    def __add__(self, other: TurnUsage) -> TurnUsage:
        known = [c for c in (self.cost_usd, other.cost_usd) if c is not None]
        return TurnUsage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            sum(known) if known else None,
        )


USER_DENIED = "User denied permission to run this."
"""The result of a tool call that a person denied (contract, Running it)."""
DeniedBy = Literal["user", "policy"]
"""Who denied: a person, or the permission mode together with the loop's rules."""


@dataclass(frozen=True, slots=True)
class PermissionDecision:
    """Whether one tool call may run, as the permission policy or a person decided.

    ``denial`` is the whole text that the agent gets as the result of a denied call; engines pass
    it on unchanged. ``denied_by`` is ``None`` exactly where the call is allowed.
    """

    allowed: bool
    denial: str = ""
    denied_by: DeniedBy | None = None
    confined: bool = False
    """An edit that was allowed because it stays in the workdir: the tool must check that again
    when it writes."""

    @classmethod
    def deny(cls, denial: str, by: DeniedBy) -> PermissionDecision:
        return cls(False, denial, by)


@dataclass(frozen=True, slots=True)
class QuestionOption:
    label: str
    description: str | None = None


@dataclass(frozen=True, slots=True)
class UserQuestion:
    id: str
    question: str
    options: tuple[QuestionOption, ...]
    multi_select: bool
    header: str | None = None


Answers = Mapping[str, str | list[str]]
"""Question id -> what the person said; always complete, keyed by id."""


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A tool call to announce. ``tool_use_id`` is unique within the turn; ``input`` is a string
    only where the model sent something that is no JSON object."""

    tool_use_id: str
    tool: str
    input: Mapping[str, Any] | str


class TurnSuspended(Exception):
    """The turn waits for a person. Raised by the host, passed through by the engine."""


class TurnHost(Protocol):
    """What an engine may do to the world while it runs one turn."""

    async def text(self, delta: str) -> None:
        """Visible text of the assistant. Stored and sent before this returns."""

    async def thinking(self, delta: str) -> None: ...

    async def tool_call(self, tool_use_id: str, tool: str, input: Mapping[str, Any] | str) -> None:
        """Announce a call, see :class:`ToolCallStart`; idempotent by its ``tool_use_id``."""

    async def tool_result(
        self, tool_use_id: str, ok: bool, result: str, *, journal: Sequence[dict[str, Any]] = ()
    ) -> None:
        """The one result of an announced call. ``result`` is what the model will see; the
        entries in ``journal`` are stored in the same transaction."""

    async def permission(
        self,
        tool_use_id: str,
        tool: str,
        input: Mapping[str, Any],
        *,
        kind: ToolKind,
        inside_workdir: bool = False,
        title: str,
        display_name: str,
        reason: str | None = None,
    ) -> PermissionDecision:
        """May this announced call run? Answers from the policy and the loop's rules, else asks.

        ``inside_workdir``: an edit whose target, all symlinks resolved inside the sandbox, lies
        in the workdir. Raises :class:`TurnSuspended` when a person has to be asked.
        """

    async def question(self, tool_use_id: str, questions: Sequence[UserQuestion]) -> Answers:
        """Ask the person. Raises :class:`TurnSuspended` until they have answered."""

    async def journal(
        self,
        *entries: dict[str, Any],
        usage: TurnUsage | None = None,
        calls: Sequence[ToolCallStart] = (),
    ) -> None:
        """Append to the turn's journal, add one model call's ``usage`` to the turn's sums and
        announce ``calls``: all of it in one transaction, or nothing."""

    async def usage(self, usage: TurnUsage) -> None:
        """Add one model call's usage to the turn's sums."""

    async def sdk_message(self, message: Mapping[str, Any]) -> None:
        """The engine's raw message, for watchers that asked for it. Not stored."""

    def history(self) -> AsyncIterator[PastTurn]:
        """The loop's earlier turns that began, newest first.

        They are read from the store in pages while they are asked for: an engine stops where it
        needs no older ones, so a long loop costs no more than a short one.
        """

    async def count_turns_before(self, turn_id: str) -> int:
        """How many of the loop's turns began before the turn ``turn_id`` of it."""

    async def sandbox(self) -> Sandbox:
        """The loop's living sandbox; starts one where it was evicted meanwhile."""


class Engine(Protocol):
    """Runs turns. One object serves all loops; what it needs of a turn later is in its journal."""

    @property
    def name(self) -> str: ...
    @property
    def durable_choices(self) -> bool: ...

    async def run(self, turn: Turn, host: TurnHost) -> None:
        """Run the turn to its end, or resume it.

        Raises:
            TurnFailure: with a message for the person; the turn ends with ``error``.
            TurnSuspended: from the host, passed through.
            asyncio.CancelledError: the turn was interrupted. Stop within milliseconds.
        """

    async def prepare(self) -> None:
        """Load ahead what the first turn would have to wait for. Raises nothing."""

    async def close_loop(self, loop_id: str) -> None:
        """The loop's sandbox is gone or about to go; drop what is kept for it."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EngineSelection:
    """Which engine serves the next turn, and why; for the Loop object and ``loopat doctor``."""

    engine: Engine
    why: str


class EngineSet(Protocol):
    """The engines of this server."""

    async def select(self) -> EngineSelection:
        """The engine of a turn that begins now. Raises nothing."""

    def named(self, name: str) -> Engine | None:
        """The engine that a stored turn began with, if it is still there."""

    async def prepare(self) -> None:
        """Load ahead what the first turn would have to wait for. Raises nothing."""

    async def close_loop(self, loop_id: str) -> None: ...
    async def close(self) -> None: ...
