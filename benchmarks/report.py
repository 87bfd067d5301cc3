"""The report: a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .measures import Measure

FORMAT = 1
VERDICTS = {True: "[green]ok[/]", False: "[red]missed[/]", None: ""}


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was with other things."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.release(),
        "load_before": [round(value, 2) for value in os.getloadavg()],
    }


def figure(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")


def print_table(measures: Sequence[Measure], console: Console) -> None:
    table = Table("benchmark", "measure", title="loopat-jupyter")
    for heading in ("measured", "baseline", "ratio", "budget"):
        table.add_column(heading, justify="right")
    table.add_column("")
    table.add_column("n", justify="right")
    table.add_column("load")
    for measure in measures:
        baseline, ratio, limit = measure.baseline, measure.ratio, measure.limit
        table.add_row(
            measure.benchmark,
            measure.name,
            f"{figure(measure.value)} {measure.unit}".strip(),
            "" if baseline is None else figure(baseline),
            "" if ratio is None else f"{figure(ratio)}x",
            "" if limit is None else f"≤ {figure(limit)} {measure.unit}".strip(),
            VERDICTS[measure.ok],
            str(measure.samples),
            measure.note,
        )
    console.print(table)


def as_json(measures: Sequence[Measure], host: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "when": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "machine": host,
        "quick": quick,
        "measures": [measure.as_json() for measure in measures],
    }


def write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
