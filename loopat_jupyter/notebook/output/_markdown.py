"""Turns and loops as Markdown outputs of bounded size.

A turn is built of its events alone while it runs. When it has ended, the server's transcript of it
is better: it has the tools' results and the answers, and is redacted. Text beyond the limits keeps
its head and tail and says how much is left out; the loop has all of it.

While a widget is live it shows the same as a loop's transcript, so that is folded up below it; in a
file that is opened without a kernel it is what there is to read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loopat_jupyter.client import Event, Queued, Started
from loopat_jupyter.transcript.escape import escape_html, truncate_middle
from loopat_jupyter.transcript.json import parse_turn
from loopat_jupyter.transcript.labels import end
from loopat_jupyter.transcript.markdown import MarkdownStyle, details, parts_blocks
from loopat_jupyter.transcript.markdown_sanitizer import blockquote
from loopat_jupyter.transcript.turn import Part, TextPart, ToolPart, TranscriptTurn, TurnBuilder

# All limits but the numbers of turns and parts are in characters.
TEXT_LIMIT = 60_000
"""The agent's text of a turn in the output of its cell."""
THINKING_LIMIT = 8_000
"""A turn's thinking."""
DETAILS_LIMIT = 60_000
"""The inputs and results of all the tool calls of a turn."""
PARTS_LIMIT = 120
"""Parts of a turn; of more the middle is counted."""
LOOP_TURNS = 20
"""The newest turns in the transcript of a loop."""
LOOP_LIMIT = 200_000
"""The transcript of a loop; of a longer one the older turns are left out first."""
LOOP_MESSAGE_LIMIT = 4_000
LOOP_TEXT_LIMIT = 20_000
"""The agent's text of a turn in the transcript of a loop."""

STYLE = MarkdownStyle(quote=False, escape_code=True, detail_limit=4_000)


class LiveTurn:
    """A turn that is built of the client's events while it runs."""

    def __init__(self) -> None:
        self.seq: int | None = None
        """Number of the newest event."""
        self._builder = TurnBuilder()
        self._position: int | None = None

    @property
    def turn(self) -> TranscriptTurn:
        """The turn so far."""
        return self._builder.turn

    def add(self, event: Event) -> None:
        """Take in the next event."""
        self.seq = event.seq if event.seq is not None else self.seq
        match event:
            case Queued():
                self._position = event.position
            case Started():
                self._position = None
        self._builder.apply(event.name, event.data)

    def markdown(self) -> str:
        """The turn so far, without the message that it answers."""
        turn = self.turn
        if turn.status != "running":
            return turn_markdown(turn)
        if self._position is not None:
            return f"*queued, position {self._position}*\n"
        return "\n\n".join(_blocks(turn, TEXT_LIMIT) or ["*waiting for the agent…*"]) + "\n"


def turn_markdown(turn: TranscriptTurn, text_limit: int = TEXT_LIMIT) -> str:
    """A turn without the message that it answers."""
    return "\n\n".join([*_blocks(turn, text_limit), end(turn)]) + "\n"


def loop_markdown(document: Mapping[str, Any], turn_count: int | None) -> str:
    """The newest turns of the transcript ``document`` (format ``json``) of a loop that has
    ``turn_count`` turns, folded up."""
    shown: list[str] = []
    size = 0
    for data in reversed(list(document.get("turns") or ())[-LOOP_TURNS:]):
        turn = parse_turn(data)
        message = blockquote(truncate_middle(turn.message, LOOP_MESSAGE_LIMIT), escape_code=True)
        text = f"{message}\n\n{turn_markdown(turn, LOOP_TEXT_LIMIT)}"
        size += len(text)
        if shown and size > LOOP_LIMIT:
            break
        is_too_long = size > LOOP_LIMIT
        shown.insert(0, "*a turn that is too long to be shown here*" if is_too_long else text)
    title = _loop_title(document, len(shown), turn_count)
    return details(title, "\n\n---\n\n".join(shown).strip("\n") or "*no turns yet*")


def _loop_title(document: Mapping[str, Any], shown: int, turn_count: int | None) -> str:
    title = f"Transcript of <b>{escape_html(str(document.get('title') or ''))}</b>"
    total = max(turn_count or 0, shown)
    if total > shown:
        return f"{title}: the newest {shown} of {total} turns (the loop has them all)"
    return f"{title}: {total} {'turn' if total == 1 else 'turns'}"


def _blocks(turn: TranscriptTurn, text_limit: int) -> list[str]:
    """The paragraphs of the turn's parts, within the limits."""
    parts: Sequence[Part] = turn.parts
    half = PARTS_LIMIT // 2
    if (left_out := len(parts) - 2 * half) > 0:
        parts = [*parts[:half], *parts[-half:]]
    parts = _truncated(_truncated(parts, "text", text_limit), "thinking", THINKING_LIMIT)
    if left_out > 0:
        parts.insert(half, TextPart("text", f"*… {left_out} more steps …*"))
    details_of_calls = 2 * sum(isinstance(part, ToolPart) for part in parts)
    limit = min(STYLE.detail_limit, DETAILS_LIMIT // max(1, details_of_calls))
    return list(parts_blocks(parts, turn.question_calls(), replace(STYLE, detail_limit=limit)))


def _truncated(parts: Sequence[Part], kind: str, limit: int) -> list[Part]:
    """``parts`` whose texts of a ``kind`` have ``limit`` characters in all: each the same share."""
    size = sum(len(part.text) for part in parts if isinstance(part, TextPart) and part.type == kind)
    if size <= limit:
        return list(parts)
    return [
        replace(part, text=truncate_middle(part.text, len(part.text) * limit // size))
        if isinstance(part, TextPart) and part.type == kind
        else part
        for part in parts
    ]
