"""Distributions on a path of their own, as ``pip install --target`` leaves them.

Made without pip: a build would need a build backend and, where that is not installed, a network.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def install_example(name: str, site: Path) -> None:
    """Put the example distribution ``name`` into the directory ``site``."""
    source = EXAMPLES / name
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    for module in source.glob("*.py"):
        site.mkdir(exist_ok=True)
        shutil.copy(module, site)
    write_metadata(site, project["name"], project["version"], project["entry-points"])


def write_metadata(
    site: Path, name: str, version: str, entry_points: Mapping[str, Mapping[str, str]]
) -> None:
    """The ``.dist-info`` of a distribution with these entry points: group, then name to value."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, values in entry_points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in values.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
