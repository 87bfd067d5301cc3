"""The domain's records: what a loop, a turn, a choice, a rule and an event are.

Plain values, made by the store and read by everybody above it. Times are RFC 3339 UTC strings
with ``Z`` and microseconds, so that they sort as text; sequence numbers start at 1.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from .ports.engine import PermissionMode, TurnState, TurnUsage
from .ports.network import AuditEntry
from .text import sanitize_text

UNFINISHED: tuple[TurnState, ...] = ("queued", "running", "waiting")
TERMINAL_EVENTS = frozenset({"done", "interrupted", "error"})

ChoiceKind = Literal["permission", "question"]
Outcome = Literal["allowed", "denied", "answered", "cancelled"]
Source = Literal["api", "web", "policy"]


def now() -> str:
    """The current time as the contract writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def new_loop_id() -> str:
    return f"loop_{uuid.uuid4()}"


def new_turn_id() -> str:
    return f"turn_{secrets.token_hex(10)}"


def new_choice_id() -> str:
    return f"choice_{secrets.token_hex(12)}"


def new_rule_id() -> str:
    return f"rule_{secrets.token_hex(6)}"


def to_json(value: Any) -> str:
    """Compact JSON on one line; what an agent made of its strings cannot break it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return sanitize_text(text)


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A folder of the server's root as the caller named it; ``path`` is relative to the root."""

    path: str
    write: bool


@dataclass(frozen=True, slots=True)
class LoopRecord:
    """One loop's record. ``archived_at`` is ``None`` while it can be used."""

    loop_id: str
    owner: str
    title: str
    created_at: str
    metadata: Mapping[str, str]
    profiles: tuple[str, ...]
    vault: str
    repo: str | None
    folders: tuple[SharedFolder, ...] = ()
    archived_at: str | None = None
    n: int = 0

    @property
    def archived(self) -> bool:
        return self.archived_at is not None


@dataclass(frozen=True, slots=True)
class RunningTurn:
    """The turn a busy loop is at."""

    turn_id: str
    state: TurnState
    started_at: str | None
    pending_choice_id: str | None


@dataclass(frozen=True, slots=True)
class LoopState:
    """What a loop is doing, derived from its turns."""

    unfinished: int
    turn_count: int
    current: RunningTurn | None

    @property
    def busy(self) -> bool:
        return self.unfinished > 0

    @property
    def queue_depth(self) -> int:
        return max(0, self.unfinished - 1)


@dataclass(frozen=True, slots=True)
class LoopListing:
    loops: list[LoopRecord]
    has_more: bool


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One accepted message and what became of it."""

    turn_id: str
    loop_id: str
    owner: str
    content: str
    permission_mode: PermissionMode | None
    state: TurnState
    created_at: str
    started_at: str | None
    n: int
    loop_n: int
    """``n`` and ``loop_n`` are the store's own keys."""
    engine: str | None = None
    """The engine it began with."""


@dataclass(frozen=True, slots=True)
class NewToolCall:
    """A tool call to announce; ``event`` is the data of its ``tool_call`` event."""

    tool_use_id: str
    tool: str
    input: Mapping[str, Any] | str
    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewToolResult:
    """The result of an announced tool call."""

    tool_use_id: str
    ok: bool
    result: str


@dataclass(frozen=True, slots=True)
class TurnUpdate:
    """Facts of a running turn that are stored together, in one transaction.

    ``journal`` entries are appended in order, ``usage`` is added to the turn's sums. A call that
    was announced before and a second result of one call are ignored.
    """

    journal: Sequence[Mapping[str, Any]] = ()
    usage: TurnUsage | None = None
    calls: Sequence[NewToolCall] = ()
    results: Sequence[NewToolResult] = ()


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message on its way in. ``permission_mode`` ``None`` means the loop's own."""

    content: str
    permission_mode: PermissionMode | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class AcceptedMessage:
    """A message is on disk. ``ahead`` counts the unfinished turns before it."""

    turn_id: str
    ahead: int
    replayed: bool = False
    state: TurnState = "queued"


@dataclass(frozen=True, slots=True)
class LoopEvent:
    """A stored event. ``data`` is its JSON text; :attr:`frame` its bytes on the wire."""

    loop_id: str
    seq: int
    turn_id: str
    name: str
    data: str

    @property
    def frame(self) -> bytes:
        return f"id: {self.seq}\nevent: {self.name}\ndata: {self.data}\n\n".encode()

    @property
    def terminal(self) -> bool:
        return self.name in TERMINAL_EVENTS


@dataclass(frozen=True, slots=True)
class ChoiceRecord:
    """A point where a turn waits, or waited, for a person."""

    choice_id: str
    loop_id: str
    turn_id: str
    tool_use_id: str
    kind: ChoiceKind
    payload: Mapping[str, Any]
    pending: bool
    outcome: Outcome | None = None
    answer: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a choice ends."""

    outcome: Outcome
    source: Source
    answer: Mapping[str, Any] = field(default_factory=dict)
    rule: RuleRecord | None = None


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A remembered permission. ``prefix`` is set for Bash alone."""

    rule_id: str
    tool: str
    prefix: str | None
    created_at: str


@dataclass(frozen=True, slots=True)
class TurnSnapshot:
    """The turn that was under way at a sequence number."""

    turn_id: str
    text: str
    choice: Mapping[str, Any] | None
    """The whole data of the pending ``requires_choice``."""


@dataclass(frozen=True, slots=True)
class ToolCallRow:
    tool_use_id: str
    tool: str
    input: Any
    ok: bool | None
    result: str
    size: int = 0
    """About how much of a page it takes, in characters."""


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One row of the conversation."""

    id: str
    turn_id: str
    role: Literal["user", "assistant"]
    content: str
    created_at: str
    status: TurnState
    tool_calls: tuple[ToolCallRow, ...] = ()
    usage: Mapping[str, Any] | None = None
    seq: int | None = None
    """Number of the turn's ``started`` event, where it began."""


@dataclass(frozen=True, slots=True)
class MessageListing:
    rows: list[MessageRow]
    has_more: bool


@dataclass(frozen=True, slots=True)
class AuditListing:
    """Lines of a loop's network audit, each with its id."""

    lines: list[tuple[str, AuditEntry]]
    has_more: bool


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """An API token without its secret."""

    token_id: str
    owner: str
    label: str
    created_at: str
    last_used_at: str | None = None
