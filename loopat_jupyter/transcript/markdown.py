"""Turns as Markdown: a document with a heading for each, and the blocks that a notebook shows too.

A document quotes what people and the agent wrote, so that it is told apart from the document's own
words; a notebook's output shows the agent's text as it is. Both fold tool calls up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from .escape import fence, pretty, strip_escape_sequences, truncate_middle
from .labels import call_summary, call_title, choice, end, heading, speaker
from .markdown_sanitizer import blockquote, sanitize
from .turn import ChoicePart, Header, Part, TextPart, ToolPart, TranscriptTurn


@dataclass(frozen=True, slots=True)
class MarkdownStyle:
    """``quote``: the agent's text stands in block quotes. ``escape_code``: code that holds a tag, a
    link or the like is shown without colours, as HTML of character references (see
    :func:`~.markdown_sanitizer.sanitize`). ``detail_limit``: characters of a tool's input and of
    its result, each."""

    quote: bool = True
    escape_code: bool = False
    detail_limit: int = 10_000

    def text(self, text: str) -> str:
        """What the agent wrote."""
        if self.quote:
            return blockquote(text, escape_code=self.escape_code)
        return sanitize(text, escape_code=self.escape_code)

    def code(self, text: str, language: str = "text") -> str:
        """A tool's input or result."""
        shown = truncate_middle(text, self.detail_limit)
        return fence(shown, language, escape_code=self.escape_code)


DOCUMENT = MarkdownStyle()


class MarkdownRenderer:
    """The document for people."""

    media_type: ClassVar[str] = "text/markdown"

    def __init__(self) -> None:
        self._number = 0

    def head(self, head: Header) -> str:
        return f"{heading(head)}\n"

    def turn(self, turn: TranscriptTurn) -> str:
        self._number += 1
        blocks = [f"## Turn {self._number}", speaker(turn), blockquote(turn.message)]
        blocks += parts_blocks(turn.parts, turn.question_calls())
        return "\n" + "\n\n".join([*blocks, end(turn)]) + "\n"

    def tail(self) -> str:
        return ""


def parts_blocks(
    parts: Iterable[Part], hidden_calls: Collection[str | None], style: MarkdownStyle = DOCUMENT
) -> Iterator[str]:
    """The paragraphs of ``parts``; tool calls with an id in ``hidden_calls`` have none."""
    for part in parts:
        match part:
            case ChoicePart():
                yield choice(part)
            case TextPart(type="thinking"):
                yield details("Thinking", style.text(part.text))
            case TextPart():
                if style.quote:
                    yield "**Agent**"
                yield style.text(part.text)
            case ToolPart() if part.tool_use_id not in hidden_calls:
                yield tool_call(part, style)


def is_shell(call: ToolPart) -> bool:
    return call.tool == "Bash" and isinstance(call.input, dict) and isinstance(
        call.input.get("command"), str
    )  # fmt: skip


def tool_call(call: ToolPart, style: MarkdownStyle) -> str:
    """A tool call with its input and result folded up; one line where neither is known."""
    blocks = []
    if is_shell(call):
        blocks.append(style.code(call.input["command"], "bash"))
    elif (shown := pretty(call.input)) not in ("null", "{}", "", call_summary(call)):
        blocks.append(style.code(shown, "text" if isinstance(call.input, str) else "json"))
    if result := strip_escape_sequences(call.result):
        blocks.append(style.code(result))
    title = call_title(call)
    return details(title, *blocks) if blocks else f"- {title}"


def details(title: str, *blocks: str) -> str:
    """Blocks that a click on ``title`` (HTML) opens."""
    inside = "\n\n".join(blocks)
    return f"<details><summary>{title}</summary>\n\n{inside}\n\n</details>"
