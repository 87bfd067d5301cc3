"""Draw docs/images/architecture.svg: the packages, and who imports whom.

    python tools/architecture_picture.py

The boxes are placed by hand below; the arrows are read from the package's own imports, so the
picture cannot say anything else than the code. tests/test_architecture.py fails when it is not the
one in the repository.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "loopat_jupyter"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
WIDTH, HEIGHT = 980, 640


class Box(NamedTuple):
    """A package in the picture: its left upper corner and size in pixels, and two lines of text."""

    x: int
    y: int
    width: int
    height: int
    lines: tuple[str, ...]


BOXES = {
    "cli": Box(70, 24, 220, 62, ("the command loopat",)),
    "notebook": Box(380, 24, 220, 62, ("magics, widgets, saved output",)),
    "client": Box(225, 130, 220, 62, ("Client, AsyncClient",)),
    "transcript": Box(700, 130, 220, 62, ("a turn as text for people",)),
    "api": Box(225, 256, 220, 62, ("routes, credentials, streams",)),
    "loops": Box(
        225,
        372,
        520,
        92,
        ("one actor for each loop; turns, choices,", "permissions, events; ports to the rest"),
    ),
    "store": Box(40, 522, 160, 76, ("SQLite: turns, events,", "choices, tokens, audit")),
    "workspace": Box(216, 522, 160, 76, ("the files of a loop,", "read and written safely")),
    "sandboxes": Box(392, 522, 176, 76, ("bubblewrap, landlock,", "podman, egress proxy")),
    "engines": Box(584, 522, 160, 76, ("builtin, claude, acp;", "models, model gateway")),
    "context": Box(790, 522, 150, 76, ("config.json, profiles,", "vaults, repositories")),
}
NOT_DRAWN = {
    "extension": "puts the parts together, so it imports them all",
    "config": "the settings of the parts; the extension hands them over",
    "widgets": "the public address of notebook.widgets",
    "__init__": "loads the others when they are asked for",
}
OPENS_THE_HOME = "cli"
"""``doctor`` and ``token`` open the home themselves; of the command line only client and transcript
are drawn."""


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_packages(path: Path) -> Iterator[str]:
    """The top-level packages of this package that a module imports."""
    here = ("loopat_jupyter", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("loopat_jupyter."):
                yield name.split(".")[1]


def arrows() -> list[tuple[str, str]]:
    """Who imports whom, of the packages that are drawn."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        source = package_of(path)
        for target in imported_packages(path):
            if source not in BOXES or target not in BOXES or source == target:
                continue
            if source == OPENS_THE_HOME and target not in {"client", "transcript"}:
                continue
            found.add((source, target))
    return sorted(found)


def _edge(box: Box, other: Box) -> tuple[float, float]:
    """Where the line between the middles of two boxes leaves the first."""
    x, y = box.x + box.width / 2, box.y + box.height / 2
    dx = other.x + other.width / 2 - x
    dy = other.y + other.height / 2 - y
    scale = min(
        (box.width / 2 + 3) / abs(dx) if dx else 9e9, (box.height / 2 + 3) / abs(dy) if dy else 9e9
    )
    return x + dx * scale, y + dy * scale


def _arrow(source: str, target: str) -> str:
    (x1, y1), (x2, y2) = (
        _edge(BOXES[source], BOXES[target]),
        _edge(BOXES[target], BOXES[source]),
    )
    return (
        f'  <line class="arrow" data-from="{source}" data-to="{target}" '
        f'x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}"/>'
    )


def _box(name: str, box: Box) -> list[str]:
    middle = box.x + box.width / 2
    top = box.y + (26 if len(box.lines) == 1 or box.height < 80 else 30)
    rows = [
        f'  <rect class="box" data-package="{name}" x="{box.x}" y="{box.y}" '
        f'width="{box.width}" height="{box.height}" rx="8"/>',
        f'  <text class="name" x="{middle:.0f}" y="{top}">{name}</text>',
    ]
    for number, line in enumerate(box.lines):
        rows.append(
            f'  <text class="text" x="{middle:.0f}" y="{top + 20 + 17 * number}">'
            f"{escape(line)}</text>"
        )
    return rows


def draw() -> str:
    """The picture as SVG."""
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="t d" '
        'font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif" font-size="14">',
        '  <title id="t">The packages of loopat for Jupyter</title>',
        '  <desc id="d">Boxes are packages, an arrow means "imports". '
        + "; ".join(f"{a} imports {b}" for a, b in arrows())
        + ".</desc>",
        "  <defs>",
        '    <marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0 10 5 0 10z" fill="#4a5568"/></marker>',
        "    <style>",
        "      .box { fill: #fff; stroke: #4a5568; stroke-width: 1.4 }",
        "      .name { font-weight: bold; fill: #1a202c; text-anchor: middle }",
        "      .text { fill: #2d3748; font-size: 12px; text-anchor: middle }",
        "      .note { fill: #1f4e8c; font-size: 12px }",
        "      .arrow { stroke: #4a5568; stroke-width: 1.4; marker-end: url(#a) }",
        "    </style>",
        "  </defs>",
        f'  <rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="14" fill="#f7f8fb" '
        'stroke="#cbd2dd" stroke-width="2"/>',
        f'  <rect x="24" y="228" width="{WIDTH - 48}" height="394" rx="12" fill="#e3ecfb" '
        'stroke="#3b6fb6" stroke-width="1.6"/>',
        '  <text class="note" x="640" y="612">in the Jupyter server: extension.py puts it together'
        "</text>",
        '  <text class="note" x="345" y="214">REST + server-sent events</text>',
        '  <line x1="335" y1="196" x2="335" y2="252" stroke="#1f4e8c" stroke-width="2" '
        'stroke-dasharray="5 4" marker-end="url(#a)"/>',
    ]
    rows += [_arrow(*arrow) for arrow in arrows()]
    for name, box in BOXES.items():
        rows += _box(name, box)
    return "\n".join([*rows, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw())
