"""``loopat chat``: a conversation at the terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._exit import CommandFailed, ExitCode, print_error
from ._messages import ModeOption
from ._terminal import is_interactive, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from loopat_jupyter.client import Loop, PermissionMode

HELP = """\
  /help      this
  /history   the conversation so far
  /rules     what is allowed without asking; /forget RULE withdraws one
  /mode MODE permission mode from now on (default, acceptEdits, plan, dontAsk, auto, …)
  /exit      leave (also Ctrl-D, or Ctrl-C at the prompt); the loop stays
Ctrl-C while the agent works interrupts the turn. A line that ends in \\ goes on in the next."""


def chat(
    context: typer.Context,
    loop: Annotated[
        str | None,
        typer.Argument(metavar="[LOOP]", help="Id, its beginning, or title; else a new loop."),
    ] = None,
    mode: ModeOption = None,
) -> None:
    """Talk with a loop. Choices are answered at the prompt."""
    from ._connection import find_loop
    from ._printers import console_for_text

    if not is_interactive():
        raise CommandFailed("chat needs a terminal; use `loopat send`", ExitCode.USAGE)
    with context.obj.connect() as client:
        target = client.loops.create("chat") if loop is None else find_loop(client, loop)
        console = console_for_text()
        conversation = ChatSession(target, console, None if mode is None else mode.value)
        with InputHistory():
            conversation.run()


class ChatSession:
    """A conversation with one loop at the terminal."""

    def __init__(self, loop: Loop, console: Console, mode: PermissionMode | None) -> None:
        from ._choice_prompt import TerminalChoicePrompt
        from ._printers import TerminalPrinter

        self._loop = loop
        self._console = console
        self._mode = mode
        self._printer = TerminalPrinter(console)
        self._choices = TerminalChoicePrompt(console, self._printer, loop.interrupt)

    def run(self) -> None:
        """Read and send messages until the person leaves."""
        loop = self._loop
        self._console.print(f"{one_line(loop.title, 60)} · {loop.id} · /help", style="dim")
        self._follow_running_turn()
        while (line := self._read_message()) is not None:
            if not line.strip():
                continue
            if line.startswith("/"):
                if not self._run_command(line[1:].strip()):
                    return
            else:
                self._report_errors(lambda text=line: self._run_turn(text))

    def _read_message(self) -> str | None:
        """One message, ``None`` when the person leaves."""
        lines: list[str] = []
        try:
            while (line := input("› " if not lines else "… ")).endswith("\\"):
                lines.append(line[:-1])
        except (EOFError, KeyboardInterrupt):
            self._console.print()
            return None
        return "\n".join([*lines, line])

    def _run_turn(self, content: str) -> None:
        from ._turn import interrupt_on_sigint, print_turn

        with interrupt_on_sigint(self._loop.interrupt):
            sent = self._loop.send(content, on_choice=self._choices, permission_mode=self._mode)
            with sent as events:
                print_turn(events, self._printer)

    def _follow_running_turn(self) -> None:
        """Print the turn that is running already, and prompt for its choices."""
        from loopat_jupyter.client import RequiresChoice, Snapshot

        from ._turn import interrupt_on_sigint

        with interrupt_on_sigint(self._loop.interrupt), self._loop.events() as events:
            # Read after subscribing, so that the end of the turn cannot be missed.
            current = self._loop.refresh().info.current_turn
            if current is None:
                return
            self._console.print("a turn is running:", style="dim")
            for event in events:
                self._printer.print_event(event)
                asked = event.choice if isinstance(event, Snapshot) else event
                if isinstance(asked, RequiresChoice):
                    self._loop.decide(asked, self._choices)
                if event.terminal and event.turn_id == current.turn_id:
                    return

    def _run_command(self, line: str) -> bool:
        """Run a slash command; false to leave."""
        name, _, argument = line.partition(" ")
        if name in {"exit", "quit", "q"}:
            return False
        actions = {
            "history": self._print_history,
            "rules": self._print_rules,
            "forget": lambda: self._loop.withdraw_rule(argument.strip()),
            "mode": lambda: self._set_mode(argument.strip()),
        }
        if name in actions:
            self._report_errors(actions[name])
        else:
            self._console.print(HELP, style="dim")
        return True

    def _report_errors(self, action: object) -> None:
        """Run ``action``. An error response is printed as one line; a lost server ends the chat."""
        from loopat_jupyter.client import ConnectionFailed, LoopatError

        assert callable(action)
        try:
            action()
        except ConnectionFailed:
            raise
        except (LoopatError, ValueError) as error:
            print_error(str(error))
        except KeyboardInterrupt:
            self._printer.end_line()

    def _print_history(self) -> None:
        from rich.text import Text

        from ._terminal import plain

        for message in self._loop.history():
            if message.role == "user":
                self._printer.print_user_message(message.content)
                continue
            for call in message.tool_calls:
                mark = {True: "✓", False: "✗", None: "…"}[call.ok]
                self._console.print(f"  ● {one_line(call.tool, 40)} {mark}", style="dim")
            self._console.print(Text(plain(message.content)), soft_wrap=True)

    def _print_rules(self) -> None:
        for rule in self._loop.rules():
            what = f"{rule.tool} {rule.prefix}" if rule.prefix else rule.tool
            self._console.print(f"  {rule.rule_id}  {one_line(what)}")

    def _set_mode(self, name: str) -> None:
        from ._messages import Mode

        self._mode = Mode(name).value


class InputHistory:
    """Line editing with the input of earlier conversations, in a file of mode 0600."""

    def __init__(self) -> None:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        self._path = Path(state) / "loopat" / "chat_history"

    def __enter__(self) -> None:
        try:
            import readline
        except ImportError:  # a Python without it: plain input
            return
        readline.set_history_length(1000)
        if self._path.is_file():
            readline.read_history_file(self._path)

    def __exit__(self, *exc: object) -> None:
        try:
            import readline

            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600)
            readline.write_history_file(self._path)
        except ImportError:
            return
        except OSError as error:
            print_error(f"the history was not kept: {error}")
