"""The turns of a conversation that an agent's own session does not hold, put into words.

An agent keeps its conversation in a session of its own. That lacks the turns which another engine
or another session ran, and may lack the end of a turn that was cut off. Which turns those are each
engine reads from its journal; here they become one text that is sent before the user's message.
The text is bounded; the newest turns are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...loops.ports.engine import PastTurn
from ..builtin.history import cut_off_note
from ..tools.outcome import truncate_middle

PROMPT_LIMIT = 60 * 1024
"""Bytes of all turns together."""
TEXT_LIMIT = 20 * 1024
"""Bytes of one message. Two of them are below ``PROMPT_LIMIT``, so one turn always fits."""

_WHOLE = "[loopat: this conversation began before this session. What was said, oldest first:]"
_PART = (
    "[loopat: this part of the conversation may be missing from your session, because it was cut "
    "off or somebody else answered it. What was said, oldest first:]"
)


def missed_turns_prompt(missed: Sequence[PastTurn], *, whole: bool) -> str:
    """``missed`` in words, oldest first; empty if there are none.

    ``whole``: they are the whole conversation so far, not only a part of it.
    """
    texts: list[str] = []
    bytes_left = PROMPT_LIMIT
    for turn in reversed(missed):
        text = _turn_text(turn)
        bytes_left -= len(text.encode(errors="replace"))
        if bytes_left < 0:
            texts.append("[loopat: the turns before are left out here.]")
            break
        texts.append(text)
    if not texts:
        return ""
    return "\n\n".join([_WHOLE if whole else _PART, *reversed(texts)])


def _turn_text(turn: PastTurn) -> str:
    visible = bool(turn.text.strip())
    lines = [f"User: {truncate_middle(turn.content, TEXT_LIMIT)}"]
    if visible:
        lines.append(f"You: {truncate_middle(turn.text, TEXT_LIMIT)}")
    if turn.state != "done":
        lines.append(cut_off_note(turn, cut_text=visible))
    return "\n".join(lines)
