"""Asking a person at the terminal to resolve a choice.

The input that would run is shown completely, and no default answer decides.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from loopat_jupyter.client import Choice, Question

from ._terminal import one_line, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from loopat_jupyter.client import Decision

    from ._printers import TerminalPrinter

MAX_LINES = 200


class TerminalChoicePrompt:
    """An ``on_choice`` policy that asks the person at the terminal.

    Ctrl-C at the prompt interrupts the turn (``interrupt``). The end of input (Ctrl-D) denies a
    permission; at a question it returns no decision, and the command fails.
    """

    def __init__(
        self, console: Console, printer: TerminalPrinter, interrupt: Callable[[], None]
    ) -> None:
        self._console = console
        self._printer = printer
        self._interrupt = interrupt

    def __call__(self, choice: Choice) -> Decision | None:
        self._printer.end_line()
        show_choice(self._console, choice)
        self._printer.decided_here.add(choice.id)
        try:
            if choice.kind == "permission":
                return self._ask_permission(choice)
            return {q.id: ask_question(q, self._console) for q in choice.questions}
        except KeyboardInterrupt:
            self._console.print()
            self._interrupt()
            return "wait"
        except EOFError:
            self._console.print()
            return False if choice.kind == "permission" else None

    def _ask_permission(self, choice: Choice) -> Decision | None:
        while True:
            reply = read_line("  Allow? y yes, a always in this loop, n no: ").strip().lower()
            if reply in {"y", "yes"}:
                return True
            if reply in {"n", "no"}:
                return False
            if reply in {"a", "always"}:
                choice.allow(remember="loop")
                return None


def read_line(prompt: str) -> str:
    """One line from the terminal; Ctrl-C raises ``KeyboardInterrupt`` while it waits.

    ``input()`` would notice a signal that arrives just before it blocks only at the next key. Here
    the signal's wakeup descriptor ends the wait. Raises ``EOFError`` at the end of input.
    """
    print(prompt, end="", flush=True)
    terminal = sys.stdin.fileno()
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    former = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    try:
        ready: list[object] = []
        while terminal not in ready:
            ready = select.select([terminal, woken], [], [])[0]
            if woken in ready:
                woken.recv(64)
        data = os.read(terminal, 1 << 16)
    finally:
        signal.set_wakeup_fd(former)
        signal.signal(signal.SIGINT, before)
        woken.close()
        wake.close()
    if not data:
        raise EOFError
    return data.decode(sys.stdin.encoding, "replace").rstrip("\n")


def show_choice(console: Console, choice: Choice) -> None:
    """Print a permission's title, input and reason. Questions are printed when they are asked."""
    if choice.kind != "permission":
        return
    title = one_line(choice.title or f"{choice.tool} asks to run", 200)
    console.print(Text("  ? ", "bold yellow") + Text(title, "bold"))
    for line in permission_lines(choice):
        console.print(Text(f"      {line}", "yellow"), soft_wrap=True)
    if choice.reason:
        console.print(Text(f"    {one_line(choice.reason, 400)}", "dim"), soft_wrap=True)


def permission_lines(choice: Choice) -> list[str]:
    """The input that will run, line by line, with control characters made visible."""
    if choice.command is not None:
        text = choice.command
    elif isinstance(choice.input, Mapping):
        text = "\n".join(f"{key}: {_format_value(value)}" for key, value in choice.input.items())
    else:
        text = _format_value(choice.input)
    lines = plain(text).split("\n")
    if len(lines) > MAX_LINES:
        rest = len(lines) - MAX_LINES
        lines = [*lines[:MAX_LINES], f"… {rest} more lines, not shown"]
    return lines


def _format_value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def ask_question(question: Question, console: Console) -> str | list[str]:
    """Ask one question. Numbers choose options, any other text is the answer itself."""
    console.print(Text("  ? ", "bold yellow") + Text(one_line(question.question), "bold"))
    labels = [option.label for option in question.options]
    for number, option in enumerate(question.options, 1):
        described = f"  {one_line(option.description, 200)}" if option.description else ""
        console.print(
            Text(f"    {number} ", "yellow")
            + Text(one_line(option.label))
            + Text(described, "dim"),
            soft_wrap=True,
        )
    how = "numbers with commas, or your own words" if question.multi_select else "number or words"
    while True:
        reply = read_line(f"  Answer ({how}): ").strip()
        if reply:
            return _parse_answer(reply, labels, question.multi_select)


def _parse_answer(text: str, labels: list[str], multi_select: bool) -> str | list[str]:
    parts = [part.strip() for part in text.split(",")] if multi_select else [text]
    numbers = [int(part) if part.isdecimal() else 0 for part in parts]
    if labels and all(0 < number <= len(labels) for number in numbers):
        chosen = [labels[number - 1] for number in numbers]
        return chosen if multi_select else chosen[0]
    return [text] if multi_select else text
