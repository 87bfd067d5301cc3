"""``loopat network``: what a loop's sandbox asked of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loopat_jupyter.client import NetworkRequest

PIPED_WIDTH = 300
"""Nothing is cut to the width of a terminal where there is none."""
STYLES = {"allowed": "green", "refused": "red", "failed": "yellow"}


def network(
    context: typer.Context,
    loop: Annotated[str, typer.Argument(help="Id or title.")],
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """What the loop's sandbox asked of the network, newest first."""
    from dataclasses import asdict
    from itertools import islice

    from ._connection import find_loop
    from ._printers import print_json

    with context.obj.connect() as client:
        asked = find_loop(client, loop).network(page_size=min(limit, 100))
        found = list(islice(asked, limit))
    if json:
        print_json([{**asdict(one), "started_at": _wire_time(one)} for one in found])
    else:
        _print_table(found)


def _wire_time(request: NetworkRequest) -> str:
    return request.started_at.isoformat().replace("+00:00", "Z")


def _print_table(requests: list[NetworkRequest]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from loopat_jupyter.transcript.escape import one_line

    from ._printers import console_for_text

    console = console_for_text()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    if not requests:
        console.print("nothing was asked of the network")
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("when", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("destination", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("out", justify="right", no_wrap=True)
    table.add_column("in", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for one in requests:
        table.add_row(
            one.started_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            one.kind,
            Text(one_line(f"{one.host}:{one.port}" if one.port else one.host)),
            Text(one.verdict, STYLES.get(one.verdict, "")),
            str(one.bytes_out),
            str(one.bytes_in),
            Text(one_line(one.reason), "dim"),
        )
    console.print(table)
