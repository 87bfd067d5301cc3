"""``loopat files``, ``put``, ``get`` and ``export``: a loop's files and transcript."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._connection import LoopArgument, find_loop
from ._exit import CommandFailed, ExitCode

if TYPE_CHECKING:
    from loopat_jupyter.client import FileInfo, Loop


class Format(StrEnum):
    MD = "md"
    JSON = "json"
    IPYNB = "ipynb"


Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def files(
    context: typer.Context,
    loop: LoopArgument,
    path: Annotated[str, typer.Argument(help="A directory in its workdir.")] = "",
    json: Json = False,
) -> None:
    """What lies in a loop's workdir."""
    from ._printers import print_json

    with context.obj.connect() as client:
        found = find_loop(client, loop).files(path)
    if json:
        print_json([_file_json(one) for one in found])
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
    from ._printers import print_json
    from ._terminal import one_line

    folder = "" if to is None else f"{to.strip('/')}/"
    with context.obj.connect() as client, _as_usage_errors():
        target = find_loop(client, loop)
        made = [target.put(source, f"{folder}{source.name}") for source in sources]
    if json:
        print_json([_file_json(one) for one in made])
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

    with context.obj.connect() as client, _as_usage_errors():
        source = find_loop(client, loop)
        if output == "-":
            sys.stdout.buffer.write(source.get(name))
            return
        target = _output_path(Path(output or "."), PurePosixPath(name).name, force)
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
    """A loop's transcript as Markdown, JSON or a notebook."""

    if turn is not None and last is not None:
        raise CommandFailed("give --turn or --last, not both", ExitCode.USAGE)
    form = wanted or _format_of(output)
    with context.obj.connect() as client:
        source = find_loop(client, loop)
        if output is None:
            _print_text(_transcript_text(source, form, turn, last))
            return
        target = _output_path(output, f"{source.id}.{form.value}", force)
        if form is Format.IPYNB:
            source.to_notebook(target, turn=turn, last=last)
        else:
            target.write_text(_transcript_text(source, form, turn, last), encoding="utf-8")
    print(target)


def _format_of(output: Path | None) -> Format:
    suffix = "" if output is None else output.suffix.removeprefix(".")
    return Format(suffix) if suffix in set(Format) else Format.MD


def _transcript_text(loop: Loop, form: Format, turn: str | None, last: int | None) -> str:
    import json

    if form is Format.MD:
        return loop.transcript(turn=turn, last=last)
    found = loop.transcript("json" if form is Format.JSON else "ipynb", turn=turn, last=last)
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def _print_text(text: str) -> None:
    from ._terminal import plain

    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)


def _output_path(path: Path, name: str, force: bool) -> Path:
    """The file to write to. Raises ``CommandFailed`` where one exists and ``force`` is false."""
    target = path / name if path.is_dir() else path
    if target.exists() and not force:
        raise CommandFailed(f"{target} is there already: --force replaces it")
    return target


@contextmanager
def _as_usage_errors() -> Iterator[None]:
    """Turn the client's ``ValueError`` for a wrong file name into a usage error."""
    try:
        yield
    except ValueError as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from error


def _file_json(info: FileInfo) -> dict[str, Any]:
    from dataclasses import asdict

    modified = info.modified and info.modified.isoformat().replace("+00:00", "Z")
    return {**asdict(info), "modified": modified}


def _print_table(files: list[FileInfo]) -> None:
    from rich.table import Column
    from rich.text import Text

    from ._printers import print_table
    from ._terminal import one_line

    rows = []
    for one in files:
        changed = one.modified.astimezone().strftime("%Y-%m-%d %H:%M") if one.modified else ""
        size = "" if one.size is None else str(one.size)
        rows.append((changed, one.type, size, Text(one_line(one.name))))
    print_table(
        [
            Column("modified", no_wrap=True),
            Column("type", no_wrap=True),
            Column("size", justify="right", no_wrap=True),
            Column("name", overflow="fold"),
        ],
        rows,
        empty="nothing is there",
    )
