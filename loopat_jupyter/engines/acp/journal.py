"""What the engine ``acp`` keeps in a turn's journal: the session that its prompt was sent to.

The entry is written before the prompt. From the entries of earlier turns the engine reads which
session to load, and which turns that session does not hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ...loops.ports.engine import PastTurn

ENTRY = "acp"


def prompt_entry(
    agent: str, session_id: str, session_key: str, instructions_hash: str
) -> dict[str, Any]:
    """``session_key``: our own id of the session, since agents may give two sessions the same id.
    ``instructions_hash``: the instructions that the session has been given, see :func:`digest`."""
    return {
        "type": ENTRY,
        "agent": agent,
        "session": session_id,
        "session_key": session_key,
        "instructions": instructions_hash,
    }


def digest(instructions: str) -> str:
    return hashlib.sha256(instructions.encode(errors="replace")).hexdigest()[:16]


def last_entry(past: Sequence[PastTurn], agent: str) -> Mapping[str, Any] | None:
    """The entry of the newest turn in which this agent was prompted."""
    for turn in reversed(past):
        entry = _entry(turn)
        if entry is not None and entry.get("agent") == agent:
            return entry
    return None


def missed_turns(past: Sequence[PastTurn], session_key: str) -> Sequence[PastTurn]:
    """The turns since the last one that the session has run to its end."""
    for number in range(len(past), 0, -1):
        turn = past[number - 1]
        entry = _entry(turn)
        if turn.state == "done" and entry is not None and entry.get("session_key") == session_key:
            return past[number:]
    return past


def _entry(turn: PastTurn) -> Mapping[str, Any] | None:
    return next((entry for entry in turn.journal if entry.get("type") == ENTRY), None)
