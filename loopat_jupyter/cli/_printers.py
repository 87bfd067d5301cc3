"""Events as they are shown: on a terminal with colours, or as JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.text import Text

from loopat_jupyter.client import (
    AssistantDelta,
    ChoiceResolved,
    Done,
    Event,
    Interrupted,
    Queued,
    RequiresChoice,
    Snapshot,
    Started,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    TurnError,
    Usage,
)
from loopat_jupyter.transcript.escape import one_line, show_control_characters

if TYPE_CHECKING:
    from collections.abc import Callable

QUICK = 0.05
MARKS = {True: Text(" ✓", "green"), False: Text(" ✗", "red")}


class Printer(Protocol):
    decided_here: set[str]
    """Choices whose outcome the person at this terminal knows already."""

    def show(self, event: Event) -> None: ...

    def user(self, content: str) -> None:
        """The person's message, where the terminal does not show it already."""

    def fresh_line(self) -> None:
        """End whatever line is open, for output of somebody else."""


class JsonPrinter:
    """One line for each event: ``{"event", "seq", "data"}``, as the server sent it."""

    def __init__(self) -> None:
        self.decided_here: set[str] = set()

    def show(self, event: Event) -> None:
        name = getattr(event, "event", event.name)
        line = {"event": name, "seq": event.seq, "data": dict(event.data)}
        print_json(line)

    def user(self, content: str) -> None:
        """Nothing: it is in the event ``started``."""

    def fresh_line(self) -> None:
        """Nothing: every line is ended."""


def print_json(value: object) -> None:
    """One line of JSON on stdout, at once."""
    print(json.dumps(value, ensure_ascii=True), file=sys.stdout, flush=True)


class TerminalPrinter:
    """A turn as it goes: text streams, a tool call is one line that ends in its outcome.

    ``echo``: show the user's message, where the terminal does not show it already. ``announce``:
    say what a choice asks, where nobody asks it here. ``whole``: show text in whole paragraphs,
    wrapped at words, for a recording.
    """

    def __init__(
        self,
        console: Console,
        *,
        echo: bool = False,
        announce: bool = False,
        whole: bool = False,
    ) -> None:
        self._console = console
        self._echo = echo
        self._announce = announce
        self._whole = whole
        self._held: list[str] = []
        self._column = 0
        self._open_call: str | None = None
        self._tools: dict[str, str] = {}
        self._thinking = False
        self._began = time.monotonic()
        self.decided_here: set[str] = set()

    def show(self, event: Event) -> None:
        match event:
            case Queued():
                self._note(f"queued, position {event.position}")
            case Started():
                self._started(event)
            case Snapshot():
                self._joined(event)
            case AssistantDelta():
                self._text(event.text, thinking=False)
            case ThinkingDelta():
                self._text(event.text, thinking=True)
            case ToolCall():
                self._call(event)
            case ToolResult():
                self._result(event)
            case RequiresChoice():
                self._asked(event)
            case ChoiceResolved():
                self._resolved(event)
            case Done():
                self._end("done", "dim", event.usage)
            case Interrupted():
                self._end("interrupted", "yellow")
            case TurnError():
                self._end(f"{event.code}: {one_line(event.message)}", "red")

    def fresh_line(self) -> None:
        if self._held:
            text, self._held = "".join(self._held), []
            self._console.print(Text(text.rstrip("\n"), self._style()))
            self._column = 0
        if self._column:
            self._console.print()
        self._column, self._open_call = 0, None

    def _started(self, event: Started) -> None:
        self._began = time.monotonic()
        if self._echo:
            self.user(event.content)
        if event.cold_start:
            self._note("a sandbox was started")

    def user(self, content: str) -> None:
        self.fresh_line()
        self._console.print(
            Text("› ", "bold cyan") + Text(show_control_characters(content), "bold")
        )

    def _text(self, text: str, *, thinking: bool) -> None:
        if thinking != self._thinking or self._open_call is not None:
            self.fresh_line()
        self._thinking = thinking
        self._stream(text)

    def _style(self) -> str:
        return "dim italic" if self._thinking else ""

    def _stream(self, text: str) -> None:
        shown = show_control_characters(text)
        if not shown:
            return
        if self._whole:
            self._held.append(shown)
            return
        self._console.print(Text(shown, self._style()), end="", soft_wrap=True)
        self._console.file.flush()
        self._column = 0 if shown.endswith("\n") else 1

    def _call(self, event: ToolCall) -> None:
        self.fresh_line()
        self._tools[event.tool_use_id] = tool = one_line(event.tool, 40)
        line = Text("  ● ", "blue") + Text(tool, "bold")
        if event.input_summary:
            room = max(20, self._console.width - len(tool) - 12)
            line += Text("  " + one_line(event.input_summary, room), "cyan")
        self._console.print(line, end="", soft_wrap=True)
        self._console.file.flush()
        self._column, self._open_call = 1, event.tool_use_id

    def _result(self, event: ToolResult) -> None:
        if self._open_call != event.tool_use_id:
            self.fresh_line()
            tool = self._tools.get(event.tool_use_id, "tool")
            self._console.print(Text("  ● ", "blue") + Text(tool, "bold"), end="")
        self._console.print(MARKS[event.ok])
        self._column, self._open_call = 0, None

    def _joined(self, event: Snapshot) -> None:
        self._stream(event.assistant_text_so_far)
        if event.choice is not None:
            self._asked(event.choice)

    def _asked(self, event: RequiresChoice) -> None:
        if self._announce:
            what = event.command or event.title or event.tool
            if event.kind == "question":
                what = "; ".join(question.question for question in event.questions)
            self._note(f"waits for a person: {what}")

    def _resolved(self, event: ChoiceResolved) -> None:
        if event.choice_id in self.decided_here and event.rule is None:
            return
        who = {"api": "by a program", "web": "in a session", "policy": "by the server"}
        said = f"{event.outcome} {who.get(event.source, event.source)}"
        if event.rule is not None:
            said += "; remembered for this loop"
        self._note(said)

    def _note(self, text: str) -> None:
        self.fresh_line()
        self._console.print(Text(f"  {one_line(text)}", "dim"))

    def _end(self, text: str, style: str, usage: Usage | None = None) -> None:
        self.fresh_line()
        parts, took = [text], time.monotonic() - self._began
        if took >= QUICK:  # a replay says nothing about the time it took
            parts.append(f"{took:.1f} s")
        if usage is not None:
            parts.append(f"{usage.input_tokens} tokens in, {usage.output_tokens} out")
            if usage.cost_usd is not None:
                parts.append(f"${usage.cost_usd:.4f}")
        self._console.print(Text("  " + " · ".join(parts), style), soft_wrap=True)
        self._thinking = False


def console_for_text(**options: object) -> Console:
    """The console every command prints to: no markup, no guessed highlighting."""
    make: Callable[..., Console] = Console
    return make(highlight=False, markup=False, emoji=False, **options)
