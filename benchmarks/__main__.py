"""``python -m benchmarks [NAME …] [--quick] [--json FILE]``.

Exit codes: 0 when everything was measured, budgets met or not; 2 for a wrong command line. A
benchmark that cannot be measured ends the program with its error.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from rich.console import Console

from .bench import Benchmark, Run
from .conversation import conversation
from .gateway import gateway
from .latency import fanout, latency
from .measures import Measure
from .memory import living, memory
from .report import as_json, machine, print_table, write_json
from .requests import create, list_pages, post, resume
from .restart import restart
from .sandboxes import cycles, sandbox, tools

BENCHMARKS: dict[str, Benchmark] = {
    "latency": latency,
    "fanout": fanout,
    "gateway": gateway,
    "post": post,
    "conversation": conversation,
    "create": create,
    "list": list_pages,
    "resume": resume,
    "sandbox": sandbox,
    "tools": tools,
    "cycles": cycles,
    "memory": memory,
    "living": living,
    "restart": restart,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="smaller loads, the same measures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measures there too")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    return given


async def measure(names: list[str], run: Run, console: Console) -> list[Measure]:
    measures: list[Measure] = []
    for name in names:
        console.print(f"[dim]{name}: {(BENCHMARKS[name].__doc__ or '').splitlines()[0]}[/]")
        measures += await BENCHMARKS[name](run)
    return measures


def main() -> None:
    given = arguments()
    console = Console(stderr=True)
    host = machine()
    names = given.names or list(BENCHMARKS)
    measures = asyncio.run(measure(names, Run(quick=given.quick), console))
    out = Console()
    # A table that goes into a file must not be folded to the eighty columns of no terminal.
    print_table(measures, out if out.is_terminal else Console(width=170))
    if given.json is not None:
        write_json(given.json, as_json(measures, host, quick=given.quick))


if __name__ == "__main__":
    main()
