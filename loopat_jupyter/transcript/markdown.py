"""The story as Markdown, for people: a heading for each turn, quotes, and folded details."""

from __future__ import annotations

from collections.abc import Iterator

from .escape import capped, escape_html, fence, pretty
from .labels import call_title, choice, end, heading, rendered_as_choice, speaker
from .markdown_sanitizer import blockquote
from .turn import ChoicePart, Header, TextPart, ToolPart, TranscriptTurn

MEDIA_TYPE = "text/markdown"


class MarkdownRenderer:
    def __init__(self) -> None:
        self._number = 0

    def head(self, head: Header) -> str:
        return f"{heading(head)}\n"

    def turn(self, story: TranscriptTurn) -> str:
        self._number += 1
        blocks = [f"## Turn {self._number}", speaker(story), blockquote(story.message)]
        for part in story.parts:
            blocks += part_blocks(part, story)
        return "\n" + "\n\n".join([*blocks, end(story)]) + "\n"

    def tail(self) -> str:
        return ""


def part_blocks(part: TextPart | ToolPart | ChoicePart, story: TranscriptTurn) -> Iterator[str]:
    """The paragraphs that tell one part."""
    if isinstance(part, ChoicePart):
        yield choice(part)
    elif isinstance(part, TextPart):
        if part.type == "thinking":
            yield details("Thinking", fence(part.text))
        else:
            yield "**Agent**"
            yield blockquote(part.text)
    elif is_shell(part):
        yield call_title(part)
        yield fence(capped(part.input["command"]), "bash")
        yield fence(capped(part.result))
    elif not rendered_as_choice(part, story):
        yield tool_details(part)


def is_shell(call: ToolPart) -> bool:
    return call.tool == "Bash" and isinstance(call.input, dict) and isinstance(
        call.input.get("command"), str
    )  # fmt: skip


def tool_details(call: ToolPart) -> str:
    """A tool call, folded: what it was given and what it gave."""
    name = call.tool
    if isinstance(call.input, dict):
        first = next((v for v in call.input.values() if isinstance(v, str)), "")
        name = f"{name} {first}"
    state = {True: "done", False: "failed", None: "no result yet"}[call.ok]
    shown_input = fence(capped(pretty(call.input)), "json")
    return details(f"{name} ({state})", shown_input, fence(capped(call.result)))


def details(title: str, *blocks: str) -> str:
    """Blocks that open when somebody wants to see them. ``title`` is anybody's text."""
    inside = "\n\n".join(blocks)
    return f"<details><summary>{escape_html(title)}</summary>\n\n{inside}\n\n</details>"
