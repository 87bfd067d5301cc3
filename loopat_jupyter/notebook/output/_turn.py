"""One turn as Markdown: text, thinking, tools and choices in the order in which they came.

Made from the events alone while the turn runs. When it has ended, the server's transcript of it
is better: it has the tools' results and the answers, and leaves out what must not be in a file.
Bounded: a turn's text beyond :data:`TEXT_LIMIT` characters keeps its head and tail; the loop has
all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from loopat_jupyter.client import (
    AssistantDelta,
    ChoiceResolved,
    Done,
    Event,
    Interrupted,
    Queued,
    RequiresChoice,
    Started,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    TurnError,
    Usage,
)
from loopat_jupyter.client._markdown import words

from ._parts import Asked, Called, Part, Said, parts_markdown, usage_words

TEXT_LIMIT = 60_000
"""Characters of a turn's text that are shown."""
_SUMMARIES = ("command", "file_path", "path", "query", "url")


class TurnStory:
    """Feed it the turn's events; ask it for :meth:`markdown` at any time."""

    def __init__(self) -> None:
        self.seq: int | None = None
        self.message: str | None = None
        self._parts: list[Part] = []
        self._calls: dict[str, Called] = {}
        self._asked: dict[str, Asked] = {}
        self._position: int | None = None
        self._end: str | None = None

    @classmethod
    def from_document(cls, turn: Mapping[str, Any]) -> Self:
        """The story of one of the ``turns`` of the server's transcript (format ``json``)."""
        story = cls()
        story.message = str(turn.get("message") or "")
        for part in turn.get("parts") or ():
            story._parts.append(_part(part))
        story._end = _end(turn)
        return story

    def add(self, event: Event) -> None:
        """Take one event in."""
        self.seq = event.seq if event.seq is not None else self.seq
        match event:
            case Queued():
                self._position = event.position
            case Started():
                self._position, self.message = None, event.content
            case AssistantDelta() | ThinkingDelta():
                self._say(event.text, isinstance(event, ThinkingDelta))
            case ToolCall():
                self._calls[event.tool_use_id] = call = Called(event.tool, event.input_summary)
                self._parts.append(call)
            case ToolResult():
                if event.tool_use_id in self._calls:
                    self._calls[event.tool_use_id].ok = event.ok
            case RequiresChoice():
                self._asked[event.choice_id] = asked = Asked(event.kind, event.payload)
                self._parts.append(asked)
            case ChoiceResolved():
                if (pending := self._asked.get(event.choice_id)) is not None:
                    pending.outcome, pending.source = event.outcome, event.source
            case Done():
                self._end = _done(event.usage)
            case Interrupted():
                self._end = INTERRUPTED
            case TurnError():
                self._end = _failed(event.code, event.message)

    def _say(self, text: str, thinking: bool) -> None:
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, Said) or last.thinking != thinking:
            last = Said(thinking)
            self._parts.append(last)
        last.add(text)

    @property
    def text(self) -> str:
        """All that the agent has said, without its thinking."""
        said = (part for part in self._parts if isinstance(part, Said) and not part.thinking)
        return "".join(piece for part in said for piece in part.pieces)

    def markdown(self, text_limit: int = TEXT_LIMIT) -> str:
        """The turn so far, without the message it answers."""
        shown = [f"*queued, position {self._position}*"] if self._position is not None else []
        shown += parts_markdown(self._parts, text_limit)
        shown.append(self._end or ("" if shown else "*waiting for the agent…*"))
        return "\n\n".join(part.strip("\n") for part in shown if part.strip()) + "\n"


INTERRUPTED = "**interrupted**"
_UNFINISHED = {
    "queued": "*queued when this was written*",
    "running": "*running when this was written*",
    "waiting": "*waiting for a person when this was written*",
    "cancelled": "*cancelled before it began*",
    "interrupted": INTERRUPTED,
}


def _done(usage: Usage | None) -> str:
    return f"*done{usage_words(usage)}*"


def _failed(code: str, message: str) -> str:
    return f"**{words(code)}**: {words(message)}"


def _end(turn: Mapping[str, Any]) -> str:
    status, error, usage = turn.get("status"), turn.get("error"), turn.get("usage")
    if isinstance(error, Mapping):
        return _failed(str(error.get("code")), str(error.get("message")))
    if status == "done":
        return _done(Usage.parse(usage) if isinstance(usage, Mapping) else None)
    return _UNFINISHED.get(str(status), f"*{words(str(status))}*")


def _part(part: Mapping[str, Any]) -> Part:
    """One part of the transcript. A kind that this version does not know is told by its name."""
    match part.get("type"):
        case "text" | "thinking" as kind:
            said = Said(kind == "thinking")
            said.add(str(part.get("text") or ""))
            return said
        case "tool":
            given = part.get("input")
            summary = str(given) if isinstance(given, str) else None
            if isinstance(given, Mapping):
                summary = next((str(given[k]) for k in _SUMMARIES if k in given), None)
            result = str(part.get("result") or "")
            return Called(str(part.get("tool")), summary, part.get("ok"), given, result)
        case "choice":
            return Asked(
                str(part.get("kind")),
                part.get("payload") or {},
                part.get("outcome"),
                part.get("source"),
                part.get("answers"),
            )
    return Called(str(part.get("type")), None)
