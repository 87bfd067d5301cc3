"""``loopat doctor``: checks whether a loop can run on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._exit import ExitCode

if TYPE_CHECKING:
    from loopat_jupyter.extension import LoopatExtension

    from ._check_result import Check

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
    from ._printers import print_json

    checks = run_checks(home, online=online)
    able = not any(check.state == "bad" for check in checks)
    if json:
        print_json({"ok": able, "checks": [check.as_json() for check in checks]})
    else:
        _print(checks, able)
    if not able:
        raise typer.Exit(ExitCode.FAILED)


def run_checks(home: Path | None, *, online: bool = False) -> list[Check]:
    """All checks, in the order in which things are needed. ``online``: also call the model."""
    from ._engine_checks import engine_checks
    from ._installation_checks import (
        database_check,
        extension_check,
        home_checks,
        packages_check,
        python_check,
    )
    from ._linux_checks import linux_checks, ports_check
    from ._sandbox_checks import sandbox_checks

    extension, problem = configured_extension()
    home_dir = home.expanduser().absolute() if home is not None else _home_of(extension)
    checks = [python_check(), packages_check()]
    if problem is not None:
        checks.append(problem)
    checks += [extension_check(), *home_checks(home_dir), database_check(home_dir)]
    checks += engine_checks(extension, home_dir, online=online)
    checks += sandbox_checks(extension, home_dir)
    return [*checks, ports_check(), *linux_checks()]


def configured_extension() -> tuple[LoopatExtension | None, Check | None]:
    """The extension with the traits that Jupyter's configuration files give it."""
    from jupyter_server.serverapp import ServerApp

    from loopat_jupyter.extension import LoopatExtension

    from ._check_result import Check

    try:
        app = ServerApp(log_level="CRITICAL", raise_config_file_errors=True)
        app.load_config_file()
        return LoopatExtension(config=app.config), None
    except Exception as error:
        fix = "repair the file, `jupyter --paths` lists where they are; defaults are assumed below"
        found = f"the configuration of Jupyter cannot be read: {error}"
        return None, Check("configuration", "warning", found, fix)


def _home_of(extension: LoopatExtension | None) -> Path:
    from ._tokens import find_home

    return find_home(Path(extension.home) if extension is not None else None)


def _print(checks: list[Check], able: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from ._printers import console_for_text
    from ._terminal import one_line

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
