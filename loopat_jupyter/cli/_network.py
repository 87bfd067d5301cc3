"""``loopat network``: the network requests of a loop's sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loopat_jupyter.client import NetworkRequest

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
        print_json([{**asdict(one), "started_at": _time_json(one)} for one in found])
    else:
        _print_table(found)


def _time_json(request: NetworkRequest) -> str:
    return request.started_at.isoformat().replace("+00:00", "Z")


def _print_table(requests: list[NetworkRequest]) -> None:
    from rich.table import Column
    from rich.text import Text

    from ._printers import print_table
    from ._terminal import one_line

    rows = [
        (
            one.started_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            one.kind,
            Text(one_line(f"{one.host}:{one.port}" if one.port else one.host)),
            Text(one.verdict, STYLES.get(one.verdict, "")),
            str(one.bytes_out),
            str(one.bytes_in),
            Text(one_line(one.reason), "dim"),
        )
        for one in requests
    ]
    print_table(
        [
            Column("when", no_wrap=True),
            Column("kind", no_wrap=True),
            Column("destination", overflow="fold"),
            Column("verdict", no_wrap=True),
            Column("out", justify="right", no_wrap=True),
            Column("in", justify="right", no_wrap=True),
            Column("reason", overflow="fold"),
        ],
        rows,
        empty="nothing was asked of the network",
    )
