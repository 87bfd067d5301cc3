"""A loop's conversation as one Markdown output: the newest turns, folded, bounded in all.

While a widget is live it shows the same, so the story is folded up below it; in a file that is
opened without a kernel it is what there is to read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loopat_jupyter.client._markdown import safe_markdown, shortened, words

from ._parts import folded
from ._turn import TurnStory

TURNS = 20
"""The newest turns that are told."""
STORY_LIMIT = 200_000
"""Characters of the whole; where more were said, older turns are left out first."""
MESSAGE_LIMIT = 4_000
TURN_LIMIT = 20_000
"""Characters of the agent's text in one turn."""


def loop_markdown(document: Mapping[str, Any], turn_count: int | None) -> str:
    """The story of the transcript ``document`` (format ``json``) of a loop's newest turns."""
    told: list[str] = []
    size = 0
    for turn in reversed(list(document.get("turns") or ())[-TURNS:]):
        text = _turn_markdown(turn)
        size += len(text)
        if told and size > STORY_LIMIT:
            break
        told.insert(0, text if size <= STORY_LIMIT else _too_long())
    return folded(_title(document, told, turn_count), "\n\n---\n\n".join(told) or "*no turns yet*")


def _title(document: Mapping[str, Any], told: Sequence[str], turn_count: int | None) -> str:
    title = f"Transcript of <b>{words(str(document.get('title') or ''), 200)}</b>"
    total = max(turn_count or 0, len(told))
    if total > len(told):
        return f"{title}: the newest {len(told)} of {total} turns (the loop has them all)"
    return f"{title}: {total} {'turn' if total == 1 else 'turns'}"


def _turn_markdown(turn: Mapping[str, Any]) -> str:
    story = TurnStory.from_document(turn)
    message = safe_markdown(shortened(story.message or "", MESSAGE_LIMIT)).strip("\n")
    quoted = "\n".join(f"> {line}".rstrip() for line in message.split("\n"))
    return f"{quoted}\n\n{story.markdown(TURN_LIMIT)}"


def _too_long() -> str:
    return "*a turn that is too long to be told here: the loop has all of it*"
