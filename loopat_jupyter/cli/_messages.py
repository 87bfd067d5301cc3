"""``loopat send`` and ``loopat watch``."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._connection import LoopArgument, find_loop
from ._exit import CommandFailed, ExitCode
from ._terminal import is_interactive

if TYPE_CHECKING:
    from loopat_jupyter.client import Loop

    from ._printers import Printer


class OnChoice(StrEnum):
    ASK = "ask"
    FAIL = "fail"
    DENY = "deny"
    ALLOW = "allow"
    WAIT = "wait"


class Mode(StrEnum):
    DEFAULT = "default"
    ACCEPT_EDITS = "acceptEdits"
    BYPASS = "bypassPermissions"
    PLAN = "plan"
    DONT_ASK = "dontAsk"
    AUTO = "auto"


ModeOption = Annotated[Mode | None, typer.Option(help="Permission mode of this message.")]
Json = Annotated[bool, typer.Option("--json", help="One line of JSON for each event.")]


def send(
    context: typer.Context,
    loop: LoopArgument,
    message: Annotated[
        str | None, typer.Argument(help="The message; - or nothing reads it from stdin.")
    ] = None,
    mode: ModeOption = None,
    on_choice: Annotated[
        OnChoice | None,
        typer.Option(help="When the turn asks: ask at this terminal, fail (exit code 5, the turn "
                     "keeps waiting), deny, allow, or wait for somebody else. Default: ask at a "
                     "terminal, else fail."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same again shows the same turn.")
    ] = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Send one message and show its turn."""
    from ._turn import STATUS_CODES, interrupt_on_sigint, print_turn

    content = _read_message(message)
    with context.obj.connect() as client:
        target = find_loop(client, loop)
        printer, policy = _printer_and_policy(target, on_choice, json)
        with interrupt_on_sigint(target.interrupt):
            events = target.send(
                content,
                on_choice=policy,
                permission_mode=None if mode is None else mode.value,
                idempotency_key=key,
            )
            with events:
                result = print_turn(events, printer)
    raise typer.Exit(STATUS_CODES.get(result.status, ExitCode.FAILED))


def watch(
    context: typer.Context,
    loop: LoopArgument,
    after: Annotated[
        int | None, typer.Option(min=0, help="First replay what came after this number; 0: all.")
    ] = None,
    json: Json = False,
) -> None:
    """Show a loop's events as they come, until Ctrl-C. Takes no part."""
    from ._printers import JsonPrinter, TerminalPrinter, console_for_text

    with context.obj.connect() as client:
        target = find_loop(client, loop)
        printer: Printer = JsonPrinter()
        if not json:
            printer = TerminalPrinter(console_for_text(), echo=True, announce=True)
        with target.events(after_seq=after) as events:
            for event in events:
                printer.print_event(event)


def _read_message(message: str | None) -> str:
    if message is None or message == "-":
        if message is None and sys.stdin.isatty():
            raise CommandFailed("no message: give one, or - to type it on stdin", ExitCode.USAGE)
        message = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    try:
        message.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CommandFailed("the message is not UTF-8 text", ExitCode.USAGE) from error
    return message


def _printer_and_policy(loop: Loop, wanted: OnChoice | None, json: bool) -> tuple[Printer, Any]:
    """The printer of the turn, and the policy for its choices."""
    from ._choice_prompt import TerminalChoicePrompt
    from ._printers import JsonPrinter, TerminalPrinter, console_for_text

    can_ask = is_interactive() and not json
    decides = wanted or (OnChoice.ASK if can_ask else OnChoice.FAIL)
    if decides is OnChoice.ASK and not can_ask:
        why = "with --json" if json else "without a terminal"
        raise CommandFailed(f"--on-choice ask cannot work {why}", ExitCode.USAGE)
    if json:
        return JsonPrinter(), decides.value
    console = console_for_text()
    printer = TerminalPrinter(console, announce=decides is not OnChoice.ASK)
    if decides is not OnChoice.ASK:
        return printer, decides.value
    return printer, TerminalChoicePrompt(console, printer, loop.interrupt)
