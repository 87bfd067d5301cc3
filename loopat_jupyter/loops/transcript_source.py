"""What is stored of a turn, whole: what a transcript is made of.

Plain values like :mod:`.records`; :mod:`loopat_jupyter.transcript` makes documents of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from .models import ChoiceRecord, ToolCallRow
from .ports.engine import TurnState


@dataclass(frozen=True, slots=True)
class TranscriptIndex:
    """Which turns a loop has, oldest first, at the moment its newest event was ``seq``."""

    seq: int
    turn_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TranscriptStream:
    """A loop's turns, read one after the other as they are asked for."""

    seq: int
    places: Mapping[str, str]
    """Paths of this host that may be in them, and what to call them."""
    turns: AsyncIterator[StoredTurn]


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """A choice with who resolved it, and when (``None`` also for what was stored without it)."""

    choice: ChoiceRecord
    source: str | None
    resolved_at: str | None


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One turn up to a sequence number.

    ``events`` are names and data in their order; deltas that follow each other are one.
    """

    turn_id: str
    status: TurnState
    created_at: str
    started_at: str | None
    ended_at: str | None
    engine: str | None
    content: str
    usage: Mapping[str, Any] | None
    events: tuple[tuple[str, Mapping[str, Any]], ...]
    calls: Mapping[str, ToolCallRow]
    """By ``tool_use_id``."""
    choices: Mapping[str, ChoiceRow]
    """By ``choice_id``."""
