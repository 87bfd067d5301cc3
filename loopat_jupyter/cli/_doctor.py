"""``loopat doctor``: could a loop run here, and what to do if not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._exit import ExitCode

if TYPE_CHECKING:
    from ._checks import Check

MARKS = {
    "ok": ("✓", "green"),
    "info": ("·", "dim"),
    "warning": ("!", "yellow"),
    "bad": ("✗", "red"),
}


def doctor(
    home: Annotated[
        Path | None,
        typer.Option(help="The server's home. Default: what the server's configuration says, "
                     "else LOOPAT_HOME, else ~/.loopat."),
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="Ask the model for one token.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:  # fmt: skip
    """Check this machine: Python, the home, models, engines, sandboxes, limits, the extension.

    Changes nothing, and sends nothing unless --online. Ends with 1 when a loop could not run.
    """
    from ._checks import examine
    from ._printers import print_json

    checks = examine(home, online=online)
    able = not any(check.state == "bad" for check in checks)
    if json:
        print_json({"ok": able, "checks": [check.as_json() for check in checks]})
    else:
        _print(checks, able)
    if not able:
        raise typer.Exit(ExitCode.FAILED)


def _print(checks: list[Check], able: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from loopat_jupyter.transcript.escape import one_line

    from ._printers import console_for_text

    console = console_for_text()
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mark, style = MARKS[check.state]
        table.add_row(Text(mark, style), Text(check.name, "bold"), Text(one_line(check.found)))
        if check.fix:
            table.add_row("", "", Text(f"→ {one_line(check.fix)}", style))
    console.print(table)
    console.print()
    if able:
        console.print("A loop can run here.", style="green")
    else:
        console.print("A loop cannot run here yet: see the lines with ✗.", style="red")
