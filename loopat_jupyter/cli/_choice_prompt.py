"""Choices at a terminal: what is asked is shown whole, and nothing is decided by accident."""

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
from loopat_jupyter.transcript.escape import one_line, show_control_characters

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from loopat_jupyter.client import Decision

    from ._printers import TerminalPrinter

SHOWN_LINES = 200


class TerminalChoices:
    """An ``on_choice`` that asks the person at the terminal.

    Ctrl-C at the question interrupts the turn (``interrupt``). The end of input (Ctrl-D) denies
    a permission, and leaves a question to the policy of last resort: the command fails.
    """

    def __init__(
        self, console: Console, printer: TerminalPrinter, interrupt: Callable[[], None]
    ) -> None:
        self._console = console
        self._printer = printer
        self._interrupt = interrupt

    def __call__(self, choice: Choice) -> Decision | None:
        self._printer.fresh_line()
        show_choice(self._console, choice)
        self._printer.decided_here.add(choice.id)
        try:
            if choice.kind == "permission":
                return self._permission(choice)
            return {q.id: ask_question(q, self._console) for q in choice.questions}
        except KeyboardInterrupt:
            self._console.print()
            self._interrupt()
            return "wait"
        except EOFError:
            self._console.print()
            return False if choice.kind == "permission" else None

    def _permission(self, choice: Choice) -> Decision | None:
        while True:
            said = read_line("  Allow? y yes, a always in this loop, n no: ").strip().lower()
            if said in {"y", "yes"}:
                return True
            if said in {"n", "no"}:
                return False
            if said in {"a", "always"}:
                choice.allow(remember="loop")
                return None


def read_line(prompt: str) -> str:
    """One line from the terminal; Ctrl-C raises ``KeyboardInterrupt``, whatever it does elsewhere.

    Not ``input()``: a signal that comes just before it blocks would be noticed with the next key
    only. Here it wakes the wait for the terminal. Raises ``EOFError`` at the end of input.
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
    """What the person has to know before deciding."""
    if choice.kind != "permission":
        return
    title = one_line(choice.title or f"{choice.tool} asks to run", 200)
    console.print(Text("  ? ", "bold yellow") + Text(title, "bold"))
    for line in permission_lines(choice):
        console.print(Text(f"      {line}", "yellow"), soft_wrap=True)
    if choice.reason:
        console.print(Text(f"    {one_line(choice.reason, 400)}", "dim"), soft_wrap=True)


def permission_lines(choice: Choice) -> list[str]:
    """The real input, line by line: nothing of it hides behind a control character."""
    if choice.command is not None:
        text = choice.command
    elif isinstance(choice.input, Mapping):
        text = "\n".join(f"{key}: {_value(value)}" for key, value in choice.input.items())
    else:
        text = _value(choice.input)
    lines = show_control_characters(text).split("\n")
    if len(lines) > SHOWN_LINES:
        rest = len(lines) - SHOWN_LINES
        lines = [*lines[:SHOWN_LINES], f"… {rest} more lines, not shown"]
    return lines


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def ask_question(question: Question, console: Console) -> str | list[str]:
    """Numbers choose options, anything else is an answer in the person's own words."""
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
        said = read_line(f"  Answer ({how}): ").strip()
        if said:
            return _chosen(said, labels, question.multi_select)


def _chosen(said: str, labels: list[str], several: bool) -> str | list[str]:
    parts = [part.strip() for part in said.split(",")] if several else [said]
    numbers = [int(part) if part.isdecimal() else 0 for part in parts]
    if labels and all(0 < number <= len(labels) for number in numbers):
        chosen = [labels[number - 1] for number in numbers]
        return chosen if several else chosen[0]
    return [said] if several else said
