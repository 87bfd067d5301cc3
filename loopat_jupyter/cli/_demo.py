"""``loopat demo``: the guided first run."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._exit import CommandFailed, ExitCode
from ._terminal import is_interactive, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from loopat_jupyter.client import Choice, Decision, Loop, OnChoice, PermissionMode

    from ._demo_server import DemoServer
    from ._printers import Printer

DEFAULT_HOME = Path("~/.loopat-demo")
SVG_WIDTH = 96


@dataclass(frozen=True, slots=True)
class DemoStep:
    """One message of the conversation, with the text that introduces it and its permission mode."""

    explanation: str
    message: str
    mode: PermissionMode | None = None


SCRIPT = (
    DemoStep("A loop is an agent with a folder of its own, in a sandbox. Say hello:", "hello"),
    DemoStep(
        "! runs a shell command: the sandbox has your Python, and no network.",
        "!python --version && id -un && ls -A && (getent hosts example.org || echo no network)",
    ),
    DemoStep("It writes files into its folder …", "write notes/plan.md: 1. look  2. think  3. act"),
    DemoStep("… and reads them; they outlive the sandbox and the server.", "read notes/plan.md"),
    DemoStep("An agent may ask you something.", "ask What shall we drink? | Tea | Coffee"),
    DemoStep(
        "In the permission mode “default” nothing runs before you have said yes.",
        "!wc -w notes/plan.md",
        "default",
    ),
)


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End after the conversation; leaves nothing behind.")
    ] = False,
    home: Annotated[
        Path | None,
        typer.Option(help=f"Where the demo keeps its loops. Default: {DEFAULT_HOME}, and a "
                     "temporary folder with --once."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="JSON lines: the addresses first, then each event.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option(help="Also write the conversation to an SVG file.", hidden=True)
    ] = None,
) -> None:  # fmt: skip
    """Start a server with the offline demo model and hold a first conversation with a loop."""
    if json and svg is not None:
        raise CommandFailed("--json shows nothing that --svg could draw", ExitCode.USAGE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _demo_home(home, once) as home_dir:
        guide = JsonDemoGuide() if json else DemoGuide(once=once, svg=svg)
        with guide.start_server(home_dir) as server:
            ok = guide.run_conversation(server)
            guide.print_next_steps(server)
            if ok and not once:
                _wait_for_server(server, guide)
    if not ok:
        raise typer.Exit(ExitCode.FAILED)


@contextmanager
def _demo_home(wanted: Path | None, once: bool) -> Iterator[Path]:
    if wanted is not None or not once:
        yield (wanted or DEFAULT_HOME).expanduser().absolute()
        return
    home = Path(tempfile.mkdtemp(prefix="loopat-demo-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wait_for_server(server: DemoServer, guide: DemoGuide) -> None:
    """Wait for Ctrl-C. Raises ``CommandFailed`` when the server ends before."""
    try:
        code = server.wait()
    except KeyboardInterrupt:
        guide.print_note("\nstopping the server …")
        return
    raise CommandFailed(f"the server ended with code {code}; see {server.log_file}")


class DemoGuide:
    """Prints the conversation for a person. ``svg``: also record it into that file."""

    def __init__(self, *, once: bool = False, svg: Path | None = None) -> None:
        from ._printers import TerminalPrinter, console_for_text

        drawn = {"width": SVG_WIDTH, "record": True} if svg is not None else {}
        self.console: Console = console_for_text(**drawn)
        self.printer: Printer = TerminalPrinter(self.console, buffer_paragraphs=svg is not None)
        self._once = once
        self._svg = svg

    def print_note(self, text: str, style: str = "dim") -> None:
        from rich.text import Text

        self.console.print(Text(text, style))

    def start_server(self, home: Path) -> DemoServer:
        from ._demo_server import DemoServer

        server = DemoServer(home)
        if not self.console.is_terminal:
            server.start()
            return server
        with self.console.status("starting a Jupyter server …"):
            server.start()
        return server

    def run_conversation(self, server: DemoServer) -> bool:
        """Run the conversation; true when no turn ended with an error."""
        from loopat_jupyter.client import Client

        with Client(server.url, server.token) as client:
            loop = client.loops.create("first conversation")
            self.on_loop_created(loop)
            return all(self._run_step(loop, step) for step in SCRIPT)

    def on_loop_created(self, loop: Loop) -> None:
        from rich.text import Text

        sandbox = Text(loop.info.sandbox or "none", "green")
        self.console.print(
            Text("loop ", "bold") + Text(loop.id, "cyan") + Text("  sandbox ") + sandbox
        )

    def _run_step(self, loop: Loop, step: DemoStep) -> bool:
        from ._choice_prompt import TerminalChoicePrompt
        from ._printers import TerminalPrinter
        from ._turn import interrupt_on_sigint, print_turn

        self.console.print()
        self.print_note(step.explanation)
        self.printer.print_user_message(step.message)
        policy: OnChoice = self._decide_automatically
        if is_interactive() and isinstance(self.printer, TerminalPrinter) and self._svg is None:
            policy = TerminalChoicePrompt(self.console, self.printer, loop.interrupt)
        with interrupt_on_sigint(loop.interrupt):
            sent = loop.send(step.message, on_choice=policy, permission_mode=step.mode)
            with sent as events:
                result = print_turn(events, self.printer)
        if result.status == "error":
            self.print_note("`loopat doctor` says what this machine lacks.", "yellow")
        return result.status != "error"

    def _decide_automatically(self, choice: Choice) -> Decision:
        """Decide without a person, and print the decision."""
        from ._choice_prompt import show_choice

        self.printer.end_line()
        show_choice(self.console, choice)
        self.printer.decided_here.add(choice.id)
        if choice.kind == "permission":
            self.print_note("  answered automatically (no terminal): yes", "yellow")
            return True
        answers: dict[str, str | list[str]] = {}
        for question in choice.questions:
            chosen = question.options[0].label if question.options else "yes"
            answers[question.id] = chosen
            labels = ", ".join(one_line(option.label) for option in question.options)
            self.print_note(f"  ? {one_line(question.question)}  [{labels}]", "bold")
            self.print_note(f"  answered automatically (no terminal): {one_line(chosen)}", "yellow")
        return answers

    def print_next_steps(self, server: DemoServer) -> None:
        """Print the addresses to continue with, and write the SVG."""
        from rich.text import Text

        url, token, home = server.url, server.token, str(server.home)
        if self._svg is not None:  # a published picture has no token and no local address
            url, token, home = "http://127.0.0.1:8888/", "$TOKEN", str(DEFAULT_HOME)
        places = [
            ("API", f"{url}loopat/api/v1/docs"),
            ("curl", f'curl -H "Authorization: token {token}" {url}loopat/api/v1/loops'),
            ("chat", "loopat chat   (in another terminal)"),
            ("home", home),
            ("stop", "Ctrl-C"),
        ]
        if server.has_lab:
            places.insert(0, ("Lab", f"{url}lab?token={token}"))
        self.console.print()
        for name, text in places[: -1 if self._once else None]:
            self.console.print(Text(f"{name:>5}  ", "bold") + Text(text), soft_wrap=True)
        if self._once and self._svg is None:
            self.print_note(
                "       --once: the server stops now; without it, it stays until Ctrl-C"
            )
        if self._svg is not None:
            self._svg.write_text(export_svg(self.console), "utf-8")


def export_svg(console: Console) -> str:
    """The console's recording as an SVG without references to other hosts."""
    svg = re.sub(r"@font-face\s*\{[^}]*\}\s*", "", console.export_svg(title="loopat demo"))
    return svg.replace("Fira Code,", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono,")


class JsonDemoGuide(DemoGuide):
    """Prints JSON lines for programs: the addresses, then each event. Decides automatically."""

    def __init__(self) -> None:
        from ._printers import JsonPrinter

        super().__init__()
        self.console.quiet = True
        self.printer = JsonPrinter()

    def on_loop_created(self, loop: Loop) -> None:
        from ._printers import print_json

        print_json({"loop_id": loop.id, "sandbox": loop.info.sandbox})

    def start_server(self, home: Path) -> DemoServer:
        from ._printers import print_json

        server = super().start_server(home)
        print_json(
            {
                "url": server.url,
                "api_url": f"{server.url}loopat/api/v1",
                "lab_url": server.lab_url,
                "token": server.token,
                "pid": server.pid,
                "home": str(server.home),
            }
        )
        return server
