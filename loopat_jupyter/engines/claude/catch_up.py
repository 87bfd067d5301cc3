"""What the agent must be told of earlier turns, because its own session does not hold it.

That is: turns that another engine ran, turns whose session was lost, and a turn of its own that was
cut off (its session may lack the last words). Everything else it remembers itself.

A turn's journal says which session it ran in: ``claude_session`` names it, ``claude_lost`` says
that it was found to be gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...loops.ports.engine import PastTurn
from ..builtin.history import cut_off_note
from ..tools.outcome import truncate_middle

SESSION, LOST = "claude_session", "claude_lost"
TURN_LIMIT = 20 * 1024
TOLD_LIMIT = 60 * 1024


def last_session(past: Sequence[PastTurn]) -> str | None:
    """The session that the conversation is in; ``None`` when a new one is to begin."""
    found: str | None = None
    for turn in past:
        for entry in turn.journal:
            if entry.get("type") == SESSION:
                found = str(entry["id"])
            elif entry.get("type") == LOST:
                found = None
    return found


def names_session(turn: PastTurn) -> bool:
    """Whether the turn's journal says which session it ran in, or that it was lost."""
    return any(entry.get("type") in (SESSION, LOST) for entry in turn.journal)


def missed_turns_prompt(past: Sequence[PastTurn], session: str | None) -> str:
    """What the agent must be told before its next message; empty when nothing."""
    turns = list(past)
    ours = [n for n, turn in enumerate(turns) if session is not None and _ran_in(turn, session)]
    if ours:
        last = ours[-1]
        turns = turns[last if turns[last].state != "done" else last + 1 :]
    if not turns:
        return ""
    told: list[str] = []
    size = 0
    for turn in reversed(turns):
        text = _turn_text(turn)
        size += len(text.encode())
        if told and size > TOLD_LIMIT:
            told.append("(The turns before are left out here.)")
            break
        told.append(text)
    head = "[loopat: what happened in this conversation that you may not remember]"
    return "\n\n".join([head, *reversed(told), "[loopat: the user's message follows]"])


def _ran_in(turn: PastTurn, session: str) -> bool:
    return any(e.get("type") == SESSION and e.get("id") == session for e in turn.journal)


def _turn_text(turn: PastTurn) -> str:
    parts = [f"User: {truncate_middle(turn.content, TURN_LIMIT)}"]
    if turn.text.strip():
        parts.append(f"You: {truncate_middle(turn.text, TURN_LIMIT)}")
    if turn.state != "done":
        parts.append(cut_off_note(turn, cut_text=bool(turn.text.strip())))
    return "\n".join(parts)
