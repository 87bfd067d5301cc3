"""``loopat loops``: list, make and archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from loopat_jupyter.client import LoopInfo


app = typer.Typer(help="List, make and archive loops.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command("list")
def list_(
    context: typer.Context,
    archived: Annotated[bool, typer.Option(help="Archived loops too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1000,
    json: Json = False,
) -> None:
    """The loops you own, newest first."""
    from itertools import islice

    from ._printers import print_json

    with context.obj.connect() as client:
        loops = client.loops.list(archived=archived, page_size=min(limit, 100))
        found = [loop.info for loop in islice(loops, limit)]
    if json:
        print_json([loop_json(info) for info in found])
    else:
        _print_table(found)


@app.command("new")
def new(
    context: typer.Context,
    title: Annotated[str | None, typer.Argument(help="What it is for.")] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Profile; may be repeated.")] = None,
    vault: Annotated[str | None, typer.Option(help="Credential bundle.")] = None,
    repo: Annotated[str | None, typer.Option(help="Source repository.")] = None,
    folder: Annotated[
        list[str] | None,
        typer.Option(help="Folder below the server's root to show in its workdir; add :rw to "
                     "let it write there. May be repeated."),
    ] = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Make a loop and print its id."""
    from ._printers import print_json

    folders = None if folder is None else [_folder(text) for text in folder]
    with context.obj.connect() as client:
        loop = client.loops.create(title, profiles=profile, vault=vault, repo=repo, folders=folders)
    if json:
        print_json(loop_json(loop.info))
    else:
        print(loop.id)


@app.command("archive")
def archive(
    context: typer.Context,
    loops: Annotated[list[str], typer.Argument(metavar="LOOP...", help="Id or title.")],
    json: Json = False,
) -> None:
    """Put loops away: their turns end, their records stay."""
    from ._connection import find_loop
    from ._printers import print_json

    with context.obj.connect() as client:
        found = [find_loop(client, wanted) for wanted in loops]
        for loop in found:
            loop.archive()
            if not json:
                print(f"archived {loop.id}")
    if json:
        print_json([loop.id for loop in found])


def _folder(text: str) -> Any:
    from loopat_jupyter.client import Folder

    path, mark, suffix = text.rpartition(":")
    return Folder(path, write=True) if mark and suffix == "rw" else Folder(text)


def loop_json(info: LoopInfo) -> dict[str, Any]:
    """The loop as the API represents it."""
    from dataclasses import asdict
    from datetime import datetime

    def wire(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat().replace("+00:00", "Z")
        if isinstance(value, dict):
            return {k: wire(v) for k, v in value.items()}
        return [wire(v) for v in value] if isinstance(value, list | tuple) else value

    fields: dict[str, Any] = wire(asdict(info))
    if info.busy is None:  # a listing says nothing about the runtime state
        for name in ("busy", "queue_depth", "turn_count", "current_turn"):
            del fields[name]
    return fields


def _print_table(loops: list[LoopInfo]) -> None:
    from rich.table import Column
    from rich.text import Text

    from ._printers import print_table
    from ._terminal import one_line

    rows = []
    for info in loops:
        created = info.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
        title = Text(one_line(info.title), "bold")
        if info.archived:
            title = Text("archived ", "dim") + title
        rows.append((info.id, created, title))
    print_table(
        [
            Column("id", no_wrap=True),
            Column("created", no_wrap=True),
            Column("title", overflow="fold"),
        ],
        rows,
        empty="no loops; `loopat loops new TITLE` makes one",
    )
