"""What an agent must be told of the conversation before the message: what it has not heard itself.

A session keeps its own conversation. It has not heard turns that another engine or session ran, and
turns that were cut off may be missing in it: those are told in words, bounded, newest first to be
kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ...loops.ports.engine import PastTurn
from ..builtin.history import cut_off_note
from ..tools.outcome import truncate_middle

ENTRY = "acp"
PAST_LIMIT = 48 * 1024
"""Bytes of the conversation that are told."""
TEXT_LIMIT = 8 * 1024
"""Bytes of one message of it."""

_NEW = "[loopat: this conversation began before this session. What was said, oldest first:]"
_AGAIN = (
    "[loopat: this part of the conversation may be missing from your session, because it was cut "
    "off or somebody else answered it. What was said, oldest first:]"
)


def journal_entry(agent: str, session_id: str, birth: str, told: str) -> dict[str, Any]:
    """Written when a turn's prompt is sent. ``birth`` tells sessions apart to which an agent gave
    the same id; ``told``: which instructions the session has heard."""
    return {"type": ENTRY, "agent": agent, "session": session_id, "birth": birth, "told": told}


def fingerprint(instructions: str) -> str:
    return hashlib.sha256(instructions.encode(errors="replace")).hexdigest()[:16]


def last_entry(past: Sequence[PastTurn], agent: str) -> Mapping[str, Any] | None:
    """The newest turn's entry that this agent was prompted in."""
    for turn in reversed(past):
        entry = _entry(turn)
        if entry is not None and entry.get("agent") == agent:
            return entry
    return None


def unheard(past: Sequence[PastTurn], birth: str) -> Sequence[PastTurn]:
    """The turns since the last one that the session has heard to its end."""
    for number in range(len(past), 0, -1):
        turn = past[number - 1]
        entry = _entry(turn)
        if turn.state == "done" and entry is not None and entry.get("birth") == birth:
            return past[number:]
    return past


def missed_turns_prompt(turns: Sequence[PastTurn], *, all_of_it: bool) -> str:
    """The turns in words; empty if there are none. ``all_of_it``: they are all there were."""
    parts: list[str] = []
    room = PAST_LIMIT
    for turn in reversed(turns):
        text = _turn_text(turn)
        room -= len(text.encode(errors="replace"))
        if room < 0:
            parts.append("[loopat: earlier turns are left out here.]")
            break
        parts.append(text)
    if not parts:
        return ""
    return "\n\n".join([_NEW if all_of_it else _AGAIN, *reversed(parts)])


def _turn_text(turn: PastTurn) -> str:
    lines = [f"User: {truncate_middle(turn.content, TEXT_LIMIT)}"]
    if turn.text.strip():
        lines.append(f"You: {truncate_middle(turn.text, TEXT_LIMIT)}")
    if turn.state != "done":
        lines.append(cut_off_note(turn, cut_text=bool(turn.text.strip())))
    return "\n".join(lines)


def _entry(turn: PastTurn) -> Mapping[str, Any] | None:
    return next((entry for entry in turn.journal if entry.get("type") == ENTRY), None)
