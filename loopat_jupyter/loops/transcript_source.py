"""A stored turn as a whole, which a transcript is made of.

Plain values like those of :mod:`.models`; the api feeds them to :mod:`loopat_jupyter.transcript`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

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
class StoredTurn:
    """One turn up to a sequence number.

    ``events`` are names and data in their order; deltas that follow each other are one. Their data
    also has what the stream of events leaves out: a call's whole ``input`` and its ``result``; a
    choice's ``tool_use_id``, and when it was resolved (``resolved_at``) with which ``answers``.
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
