"""The result of a turn, collected from its events, and the errors that carry it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ._errors import LoopatError
from ._events import (
    AssistantDelta,
    ChoiceResolved,
    Done,
    Event,
    Interrupted,
    RequiresChoice,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    TurnError,
)
from ._markdown import code_span, safe_markdown, words
from ._models import Usage


@dataclass(frozen=True, slots=True)
class TurnToolCall:
    """One tool call of the turn. ``ok`` is ``None`` while it has no result."""

    tool_use_id: str
    tool: str
    summary: str | None = None
    ok: bool | None = None


@dataclass(frozen=True, slots=True)
class TurnChoice:
    """One choice of the turn. ``outcome`` and ``source`` are ``None`` while it is pending."""

    request: RequiresChoice
    outcome: str | None = None
    source: str | None = None


@dataclass(slots=True, repr=False)
class TurnResult:
    """One turn up to its newest event, with displays for notebooks and terminals.

    ``status`` is ``running`` until the terminal event, then ``done``, ``interrupted`` or
    ``error``. The text is the agent's: treat it as untrusted where you display it yourself.
    """

    turn_id: str | None = None
    status: str = "running"
    tool_calls: list[TurnToolCall] = field(default_factory=list)
    choices: list[TurnChoice] = field(default_factory=list)
    usage: Usage | None = None
    error_code: str | None = None
    error_message: str | None = None
    _text: list[str] = field(default_factory=list)
    _thinking: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All visible text of the turn."""
        return "".join(self._text)

    @property
    def thinking(self) -> str:
        return "".join(self._thinking)

    def add(self, event: Event) -> None:
        """Update the result by one event of the turn."""
        self.turn_id = self.turn_id or event.turn_id
        match event:
            case AssistantDelta():
                self._text.append(event.text)
            case ThinkingDelta():
                self._thinking.append(event.text)
            case ToolCall():
                call = TurnToolCall(event.tool_use_id, event.tool, event.input_summary)
                self.tool_calls.append(call)
            case ToolResult():
                self._tool_ended(event)
            case RequiresChoice():
                self.choices.append(TurnChoice(event))
            case ChoiceResolved():
                self._choice_ended(event)
            case Done():
                self.status, self.usage = "done", event.usage
            case Interrupted():
                self.status = "interrupted"
            case TurnError():
                self.status = "error"
                self.error_code, self.error_message = event.code, event.message

    def _tool_ended(self, event: ToolResult) -> None:
        self.tool_calls = [
            replace(call, ok=event.ok) if call.tool_use_id == event.tool_use_id else call
            for call in self.tool_calls
        ]

    def _choice_ended(self, event: ChoiceResolved) -> None:
        self.choices = [
            replace(choice, outcome=event.outcome, source=event.source)
            if choice.request.choice_id == event.choice_id
            else choice
            for choice in self.choices
        ]

    def raise_for_status(self) -> TurnResult:
        """The result itself when the turn is ``done``.

        Raises:
            TurnInterrupted: it was interrupted.
            TurnFailed: it ended with ``error``; ``code`` is the event's.
        """
        if self.status == "interrupted":
            raise TurnInterrupted("the turn was interrupted", code="interrupted", result=self)
        if self.status == "error":
            code = self.error_code or "agent_error"
            raise TurnFailed(self.error_message or code, code=code, result=self)
        return self

    def __repr__(self) -> str:
        return f"<TurnResult {self.status} {self.text!r}>"

    def __str__(self) -> str:
        return self.text

    def __rich_repr__(self) -> Iterator[Any]:
        yield "status", self.status
        yield "text", self.text
        yield "tool_calls", self.tool_calls, []
        yield "choices", self.choices, []
        yield "usage", self.usage, None
        yield "error_code", self.error_code, None

    def _repr_markdown_(self) -> str:
        lines = [safe_markdown(self.text.rstrip())]
        for call in self.tool_calls:
            mark = {True: "✓", False: "✗", None: "…"}[call.ok]
            lines.append(
                f"- {mark} **{words(call.tool)}** {code_span(call.summary or '')}".rstrip()
            )
        if self.status in {"interrupted", "error"}:
            lines.append(f"*{self.status}* {code_span(self.error_message or '')}".rstrip())
        return "\n".join([lines[0], "", *lines[1:]]).strip()


class TurnFailed(LoopatError):
    """The turn ended with ``error``. ``result`` is the turn up to its end."""

    def __init__(self, message: str, *, code: str, result: TurnResult) -> None:
        super().__init__(message)
        self.code = code
        self.result = result


class TurnInterrupted(TurnFailed):
    """The turn ended with ``interrupted``."""
