"""``loopat files``, ``put``, ``get`` and ``export``: what goes in and out of a loop."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._exit import CommandFailed, ExitCode

if TYPE_CHECKING:
    from loopat_jupyter.client import FileInfo, Loop

PIPED_WIDTH = 300
"""Nothing is cut to the width of a terminal where there is none."""


class Format(StrEnum):
    MD = "md"
    JSON = "json"
    IPYNB = "ipynb"


LoopArgument = Annotated[str, typer.Argument(metavar="LOOP", help="Id, its beginning, or title.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def files(
    context: typer.Context,
    loop: LoopArgument,
    path: Annotated[str, typer.Argument(help="A directory in its workdir.")] = "",
    json: Json = False,
) -> None:
    """What lies in a loop's workdir."""
    from ._connection import find_loop
    from ._printers import print_json

    with context.obj.connect() as client:
        found = find_loop(client, loop).files(path)
    if json:
        print_json([_wire(one) for one in found])
    else:
        _print_table(found)


def put(
    context: typer.Context,
    loop: LoopArgument,
    sources: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files from here.")],
    to: Annotated[
        str | None, typer.Option(help="The directory in the workdir; made where it is missing.")
    ] = None,
    json: Json = False,
) -> None:
    """Copy files into a loop's workdir; what is there under the same name is replaced."""
    from loopat_jupyter.transcript.escape import one_line

    from ._connection import find_loop
    from ._printers import print_json

    folder = "" if to is None else f"{to.strip('/')}/"
    with context.obj.connect() as client, _names_checked():
        target = find_loop(client, loop)
        made = [target.put(source, f"{folder}{source.name}") for source in sources]
    if json:
        print_json([_wire(one) for one in made])
        return
    for one in made:
        print(one_line(f"{one.path} ({one.size} bytes)"))


def get(
    context: typer.Context,
    loop: LoopArgument,
    name: Annotated[str, typer.Argument(help="A file in its workdir.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File or folder to write to; - is stdout. "
                     "Default: the file's own name, here."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace a file that is here.")] = False,
) -> None:  # fmt: skip
    """Copy a file out of a loop's workdir. An agent made it: look before you open it."""
    from ._connection import find_loop

    with context.obj.connect() as client, _names_checked():
        source = find_loop(client, loop)
        if output == "-":
            sys.stdout.buffer.write(source.get(name))
            return
        target = _free(Path(output or "."), PurePosixPath(name).name, force)
        print(source.get(name, target))


def export(
    context: typer.Context,
    loop: LoopArgument,
    wanted: Annotated[
        Format | None,
        typer.Option("--format", help="Default: by the name of --output, else md."),
    ] = None,
    turn: Annotated[str | None, typer.Option(help="That turn alone.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="So many turns, the newest.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write to; else stdout.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """A loop's story as Markdown, JSON or a notebook."""
    from ._connection import find_loop

    if turn is not None and last is not None:
        raise CommandFailed("give --turn or --last, not both", ExitCode.USAGE)
    form = wanted or _format_of(output)
    with context.obj.connect() as client:
        source = find_loop(client, loop)
        if output is None:
            _print_text(_text(source, form, turn, last))
            return
        target = _free(output, f"{source.id}.{form.value}", force)
        if form is Format.IPYNB:
            source.to_notebook(target, turn=turn, last=last)
        else:
            target.write_text(_text(source, form, turn, last), encoding="utf-8")
    print(target)


def _format_of(output: Path | None) -> Format:
    suffix = "" if output is None else output.suffix.removeprefix(".")
    return Format(suffix) if suffix in set(Format) else Format.MD


def _text(loop: Loop, form: Format, turn: str | None, last: int | None) -> str:
    import json

    if form is Format.MD:
        return loop.transcript(turn=turn, last=last)
    found = loop.transcript("json" if form is Format.JSON else "ipynb", turn=turn, last=last)
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def _print_text(text: str) -> None:
    from loopat_jupyter.transcript.escape import show_control_characters

    sys.stdout.write(show_control_characters(text) if sys.stdout.isatty() else text)


def _free(path: Path, name: str, force: bool) -> Path:
    """Where to write. Raises ``CommandFailed`` where something is in the way."""
    target = path / name if path.is_dir() else path
    if target.exists() and not force:
        raise CommandFailed(f"{target} is there already: --force replaces it")
    return target


@contextmanager
def _names_checked() -> Iterator[None]:
    """A name that is no path in a workdir is a wrong command line."""
    try:
        yield
    except ValueError as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from error


def _wire(info: FileInfo) -> dict[str, Any]:
    from dataclasses import asdict

    modified = info.modified and info.modified.isoformat().replace("+00:00", "Z")
    return {**asdict(info), "modified": modified}


def _print_table(files: list[FileInfo]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from loopat_jupyter.transcript.escape import one_line

    from ._printers import console_for_text

    console = console_for_text()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    if not files:
        console.print("nothing is there")
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("modified", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("name", overflow="fold")
    for one in files:
        changed = one.modified.astimezone().strftime("%Y-%m-%d %H:%M") if one.modified else ""
        size = "" if one.size is None else str(one.size)
        table.add_row(changed, one.type, size, Text(one_line(one.name)))
    console.print(table)
