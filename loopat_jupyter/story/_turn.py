"""One turn as Markdown: text, thinking, tools and choices in the order in which they came.

Made from the events alone, so it can be shown while the turn runs and is complete when it ends.
Bounded: a turn's text beyond :data:`TEXT_LIMIT` characters keeps its head and tail, and of many
tool calls in a row the middle is counted instead of listed. The loop has all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
from loopat_jupyter.client._markdown import code_span, fenced, safe_markdown, shortened, words

TEXT_LIMIT = 60_000
"""Characters of a turn's text that are shown."""
THINKING_LIMIT = 8_000
CARDS_LIMIT = 60
"""Tool calls in a row that are listed."""
MARKS = {True: "✓", False: "✗", None: "…"}


@dataclass(slots=True)
class _Said:
    thinking: bool
    pieces: list[str] = field(default_factory=list)
    size: int = 0


@dataclass(slots=True)
class _Called:
    tool: str
    summary: str | None
    ok: bool | None = None


@dataclass(slots=True)
class _Asked:
    request: RequiresChoice
    outcome: str | None = None
    source: str | None = None


class TurnStory:
    """Feed it the turn's events; ask it for :meth:`markdown` at any time."""

    def __init__(self) -> None:
        self.seq: int | None = None
        self.ended = False
        self._parts: list[_Said | _Called | _Asked] = []
        self._calls: dict[str, _Called] = {}
        self._asked: dict[str, _Asked] = {}
        self._position: int | None = None
        self._end: str | None = None

    def add(self, event: Event) -> None:
        """Take one event in."""
        self.seq = event.seq if event.seq is not None else self.seq
        self.ended = self.ended or event.terminal
        match event:
            case Queued():
                self._position = event.position
            case Started():
                self._position = None
            case AssistantDelta() | ThinkingDelta():
                self._say(event.text, isinstance(event, ThinkingDelta))
            case ToolCall():
                self._calls[event.tool_use_id] = call = _Called(event.tool, event.input_summary)
                self._parts.append(call)
            case ToolResult():
                if event.tool_use_id in self._calls:
                    self._calls[event.tool_use_id].ok = event.ok
            case RequiresChoice():
                self._asked[event.choice_id] = asked = _Asked(event)
                self._parts.append(asked)
            case ChoiceResolved():
                if (pending := self._asked.get(event.choice_id)) is not None:
                    pending.outcome, pending.source = event.outcome, event.source
            case Done():
                self._end = f"*done{_usage(event.usage)}*"
            case Interrupted():
                self._end = "**interrupted**"
            case TurnError():
                self._end = f"**{words(event.code)}**: {words(event.message)}"

    def _say(self, text: str, thinking: bool) -> None:
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, _Said) or last.thinking != thinking:
            last = _Said(thinking)
            self._parts.append(last)
        last.pieces.append(text)
        last.size += len(text)

    def markdown(self) -> str:
        """The turn so far."""
        shown: list[str] = []
        if self._position is not None:
            shown.append(f"*queued, position {self._position}*")
        spoken = sum(p.size for p in self._parts if isinstance(p, _Said) and not p.thinking)
        share = min(1.0, TEXT_LIMIT / spoken) if spoken else 1.0
        cards: list[str] = []
        for part in self._parts:
            if isinstance(part, _Called):
                cards.append(_card(part))
                continue
            shown += _listed(cards)
            cards = []
            shown.append(_text(part, share) if isinstance(part, _Said) else _choice(part))
        shown += _listed(cards)
        shown.append(self._end or ("" if self._parts or shown else "*waiting for the agent…*"))
        return "\n\n".join(part.strip("\n") for part in shown if part.strip()) + "\n"


def _text(said: _Said, share: float) -> str:
    text = "".join(said.pieces)
    said.pieces = [text]
    if not said.thinking:
        return safe_markdown(shortened(text, int(said.size * share) if share < 1 else said.size))
    inside = safe_markdown(shortened(text, THINKING_LIMIT)).strip("\n")
    return f"<details><summary>thinking</summary>\n\n{inside}\n\n</details>"


def _card(call: _Called) -> str:
    return f"- {MARKS[call.ok]} **{words(call.tool, 60)}** {code_span(call.summary or '')}".rstrip()


def _listed(cards: list[str]) -> list[str]:
    if len(cards) > CARDS_LIMIT:
        half = CARDS_LIMIT // 2
        left_out = f"- … {len(cards) - 2 * half} more tool calls"
        cards = [*cards[:half], left_out, *cards[-half:]]
    return ["\n".join(cards)] if cards else []


def _choice(asked: _Asked) -> str:
    request = asked.request
    if request.kind == "question":
        what = "\n".join(f"> **{words(q.question)}**" for q in request.questions)
        block = ""
    else:
        what = f"> may **{words(request.display_name or request.tool, 60)}** run?"
        block = fenced(shortened(request.command, 2000), "bash") if request.command else ""
    who = {"api": " by a program", "web": " in a session", "policy": " by the server"}
    end = "waits for a person"
    if asked.outcome is not None:
        end = f"{words(asked.outcome)}{who.get(asked.source or '', '')}"
    return f"{what}\n{block}\n*{end}*"


def _usage(usage: Usage | None) -> str:
    if usage is None:
        return ""
    cost = "" if usage.cost_usd is None else f" · ${usage.cost_usd:.4f}"
    return f" · {usage.input_tokens} tokens in, {usage.output_tokens} out{cost}"
