"""Printing events: on a terminal with colours, or as JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Protocol

from rich import box
from rich.console import Console
from rich.table import Column, Table
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

from ._terminal import one_line, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PIPED_WIDTH = 300
"""Columns of a table that is not printed to a terminal, so that nothing is cut."""

SHORTEST_DURATION = 0.05
MARKS = {True: Text(" ✓", "green"), False: Text(" ✗", "red")}


class Printer(Protocol):
    decided_here: set[str]
    """The ids of choices that were resolved at this terminal: their outcome is not printed."""

    def print_event(self, event: Event) -> None: ...

    def print_user_message(self, content: str) -> None:
        """Print the user's message, where the terminal does not show it already."""

    def end_line(self) -> None:
        """End an unfinished line, before other code prints to the terminal."""


class JsonPrinter:
    """One line for each event: ``{"event", "seq", "data"}``, as the server sent it."""

    def __init__(self) -> None:
        self.decided_here: set[str] = set()

    def print_event(self, event: Event) -> None:
        name = getattr(event, "event", event.name)
        line = {"event": name, "seq": event.seq, "data": dict(event.data)}
        print_json(line)

    def print_user_message(self, content: str) -> None:
        """Nothing: the event ``started`` contains it."""

    def end_line(self) -> None:
        """Nothing: JSON is printed in whole lines."""


def print_json(value: object) -> None:
    """Print one line of JSON to stdout and flush it."""
    print(json.dumps(value, ensure_ascii=True), file=sys.stdout, flush=True)


class TerminalPrinter:
    """Prints a turn while it runs: text as it arrives, a tool call as one line with its outcome.

    Args:
        echo: print the user's message, where the terminal does not show it already.
        announce: print what a choice is about, where this terminal does not prompt for it.
        buffer_paragraphs: print text in whole paragraphs, wrapped at words, for a recording.
    """

    def __init__(
        self,
        console: Console,
        *,
        echo: bool = False,
        announce: bool = False,
        buffer_paragraphs: bool = False,
    ) -> None:
        self._console = console
        self._echo = echo
        self._announce = announce
        self._buffer_paragraphs = buffer_paragraphs
        self._buffered_text: list[str] = []
        self._column = 0
        self._open_call_id: str | None = None
        self._tools: dict[str, str] = {}
        self._thinking = False
        self._started_at = time.monotonic()
        self.decided_here: set[str] = set()

    def print_event(self, event: Event) -> None:
        match event:
            case Queued():
                self._print_note(f"queued, position {event.position}")
            case Started():
                self._on_started(event)
            case Snapshot():
                self._on_snapshot(event)
            case AssistantDelta():
                self._on_text(event.text, thinking=False)
            case ThinkingDelta():
                self._on_text(event.text, thinking=True)
            case ToolCall():
                self._on_tool_call(event)
            case ToolResult():
                self._on_tool_result(event)
            case RequiresChoice():
                self._on_requires_choice(event)
            case ChoiceResolved():
                self._on_choice_resolved(event)
            case Done():
                self._print_turn_end("done", "dim", event.usage)
            case Interrupted():
                self._print_turn_end("interrupted", "yellow")
            case TurnError():
                self._print_turn_end(f"{event.code}: {one_line(event.message)}", "red")

    def end_line(self) -> None:
        if self._buffered_text:
            text, self._buffered_text = "".join(self._buffered_text), []
            self._console.print(Text(text.rstrip("\n"), self._style()))
            self._column = 0
        if self._column:
            self._console.print()
        self._column, self._open_call_id = 0, None

    def _on_started(self, event: Started) -> None:
        self._started_at = time.monotonic()
        if self._echo:
            self.print_user_message(event.content)
        if event.cold_start:
            self._print_note("a sandbox was started")

    def print_user_message(self, content: str) -> None:
        self.end_line()
        self._console.print(Text("› ", "bold cyan") + Text(plain(content), "bold"))

    def _on_text(self, text: str, *, thinking: bool) -> None:
        if thinking != self._thinking or self._open_call_id is not None:
            self.end_line()
        self._thinking = thinking
        self._print_text(text)

    def _style(self) -> str:
        return "dim italic" if self._thinking else ""

    def _print_text(self, text: str) -> None:
        shown = plain(text)
        if not shown:
            return
        if self._buffer_paragraphs:
            self._buffered_text.append(shown)
            return
        self._console.print(Text(shown, self._style()), end="", soft_wrap=True)
        self._console.file.flush()
        self._column = 0 if shown.endswith("\n") else 1

    def _on_tool_call(self, event: ToolCall) -> None:
        self.end_line()
        self._tools[event.tool_use_id] = tool = one_line(event.tool, 40)
        line = Text("  ● ", "blue") + Text(tool, "bold")
        if event.input_summary:
            room = max(20, self._console.width - len(tool) - 12)
            line += Text("  " + one_line(event.input_summary, room), "cyan")
        self._console.print(line, end="", soft_wrap=True)
        self._console.file.flush()
        self._column, self._open_call_id = 1, event.tool_use_id

    def _on_tool_result(self, event: ToolResult) -> None:
        if self._open_call_id != event.tool_use_id:
            self.end_line()
            tool = self._tools.get(event.tool_use_id, "tool")
            self._console.print(Text("  ● ", "blue") + Text(tool, "bold"), end="")
        self._console.print(MARKS[event.ok])
        self._column, self._open_call_id = 0, None

    def _on_snapshot(self, event: Snapshot) -> None:
        self._print_text(event.assistant_text_so_far)
        if event.choice is not None:
            self._on_requires_choice(event.choice)

    def _on_requires_choice(self, event: RequiresChoice) -> None:
        if self._announce:
            what = event.command or event.title or event.tool
            if event.kind == "question":
                what = "; ".join(question.question for question in event.questions)
            self._print_note(f"waits for a person: {what}")

    def _on_choice_resolved(self, event: ChoiceResolved) -> None:
        if event.choice_id in self.decided_here and event.rule is None:
            return
        who = {"api": "by a program", "web": "in a session", "policy": "by the server"}
        note = f"{event.outcome} {who.get(event.source, event.source)}"
        if event.rule is not None:
            note += "; remembered for this loop"
        self._print_note(note)

    def _print_note(self, text: str) -> None:
        self.end_line()
        self._console.print(Text(f"  {one_line(text)}", "dim"))

    def _print_turn_end(self, text: str, style: str, usage: Usage | None = None) -> None:
        self.end_line()
        parts, took = [text], time.monotonic() - self._started_at
        if took >= SHORTEST_DURATION:  # a replayed turn is shorter, and its time means nothing
            parts.append(f"{took:.1f} s")
        if usage is not None:
            parts.append(f"{usage.input_tokens} tokens in, {usage.output_tokens} out")
            if usage.cost_usd is not None:
                parts.append(f"${usage.cost_usd:.4f}")
        self._console.print(Text("  " + " · ".join(parts), style), soft_wrap=True)
        self._thinking = False


def console_for_text(**options: object) -> Console:
    """The console every command prints to, without rich's markup, emoji and highlighting."""
    make: Callable[..., Console] = Console
    return make(highlight=False, markup=False, emoji=False, **options)


def print_table(
    columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], *, empty: str
) -> None:
    """Print rows below their columns' headers, or the sentence ``empty`` where there are none."""
    console = console_for_text()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    if not rows:
        console.print(empty)
        return
    table = Table(
        *columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
