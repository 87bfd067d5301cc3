"""``loopat send`` and ``loopat watch``."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._exit import CommandFailed, ExitCode
from ._terminal import is_interactive

if TYPE_CHECKING:
    from loopat_jupyter.client import Loop

    from ._render import Printer


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


LoopArgument = Annotated[str, typer.Argument(metavar="LOOP", help="Id, its beginning, or title.")]
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
    from ._connection import find_loop
    from ._turn import STATUS_CODES, follow, interrupting

    content = _content(message)
    with context.obj.connect() as client:
        target = find_loop(client, loop)
        printer, ask = _faces(target, json)
        policy = _policy(on_choice, ask, json)
        with interrupting(target.interrupt):
            events = target.send(
                content,
                on_choice=policy,
                permission_mode=None if mode is None else mode.value,
                idempotency_key=key,
            )
            with events:
                result = follow(events, printer)
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
    from ._connection import find_loop
    from ._render import JsonPrinter, TerminalPrinter, console_for_text

    with context.obj.connect() as client:
        target = find_loop(client, loop)
        printer: Printer = JsonPrinter() if json else TerminalPrinter(console_for_text(), echo=True)
        with target.events(after_seq=after) as events:
            for event in events:
                printer.show(event)


def _content(message: str | None) -> str:
    if message is None or message == "-":
        if message is None and sys.stdin.isatty():
            raise CommandFailed("no message: give one, or - to type it on stdin", ExitCode.USAGE)
        message = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    try:
        message.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CommandFailed("the message is not UTF-8 text", ExitCode.USAGE) from error
    return message


def _faces(loop: Loop, json: bool) -> tuple[Printer, Any]:
    """Who shows events, and who could ask."""
    from ._render import JsonPrinter, TerminalPrinter, console_for_text

    if json:
        return JsonPrinter(), None
    from ._ask import TerminalChoices

    console = console_for_text()
    printer = TerminalPrinter(console)
    return printer, TerminalChoices(console, printer, loop.interrupt)


def _policy(wanted: OnChoice | None, ask: Any, json: bool) -> Any:
    if wanted is None:
        return ask if ask is not None and is_interactive() else "fail"
    if wanted is OnChoice.ASK:
        if ask is None or not is_interactive():
            why = "with --json" if json else "without a terminal"
            raise CommandFailed(f"--on-choice ask cannot work {why}", ExitCode.USAGE)
        return ask
    return wanted.value
