"""The shape of the package: imports point one way, names are unique, modules stay readable."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import loopat_jupyter
from tools import architecture_picture

PACKAGE = Path(loopat_jupyter.__file__).parent
ROOT = Path(__file__).parent.parent
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "static" not in p.parts)
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()

# What a package may import of the others. "loops.ports" and the like name single modules.
ALLOWED: dict[str, set[str]] = {
    "loops": {"loops"},
    "store": {"store", "loops"},
    "engines": {
        "engines",
        "loops.ports",
        "loops.destinations",
        "loops.errors",
        "context.config_file",
        "context.vaults",
    },
    "sandboxes": {"sandboxes", "loops.ports", "loops.destinations", "loops.errors"},
    "context": {"context", "loops"},
    "workspace": {"workspace", "loops"},
    # Pure: it makes documents of the domain's records, and the api sends them.
    "transcript": {"transcript", "loops.models", "loops.transcript_source"},
    "api": {"api", "loops", "transcript"},
    "client": {"client"},
    "notebook": {"notebook", "client"},
    "cli": {"cli", "client"},
    "extension": {"api", "loops", "engines", "sandboxes", "context", "workspace", "store"},
    "widgets": {"notebook.widgets"},
    "__init__": {"extension", "notebook.magics", "notebook.widgets", "widgets"},
}

# `doctor` and `token` may open the home; the demo is told what the model is called.
OPENS_THE_HOME: dict[str, set[str]] = {
    "cli/_installation_checks.py": {"store"},
    "cli/_engine_checks.py": {"context", "engines", "extension", "loops.errors"},
    "cli/_sandbox_checks.py": {"sandboxes", "extension", "loops.errors"},
    "cli/_doctor.py": {"extension"},
    "cli/_tokens.py": {"store", "api.auth", "loops.models"},
}

FILES_IN_A_FOLDER = 14
LARGER_FOLDERS = {
    "api": "one file for each resource of the API, beside what they all share",
    "cli": "one file for each command, beside what they all share",
    "client": "one file for each part of the API's data",
    "store": "one file for each table's repository",
    "engines/claude": "the CLI's protocol: one file for each kind of message and its answer",
    "engines/acp": "the protocol's requests and updates, one file each",
    "notebook/magics": "one file for each option and command of the magics",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imports(path: Path) -> Iterator[str]:
    """The modules of this package that ``path`` imports, relative to the package."""
    here = ("loopat_jupyter", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("loopat_jupyter."):
                yield name.removeprefix("loopat_jupyter.")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(PACKAGE).with_suffix("").parts[0]
    allowed = ALLOWED[package] | OPENS_THE_HOME.get(name_of(path), set())
    for name in imports(path):
        if name.startswith("__version__"):
            continue
        assert any(name == one or name.startswith(f"{one}.") for one in allowed), (
            f"{name_of(path)} must not import {name}"
        )


def test_the_import_walk_sees_relative_and_absolute_imports() -> None:
    found = set(imports(PACKAGE / "extension.py"))
    assert "api.routes.handlers" in found
    assert "store.Store" in found


def _file_imports() -> dict[str, set[str]]:
    """Which file imports which, by dotted name; imports of a package's own face do not count."""
    files = {
        ".".join(p.relative_to(PACKAGE).with_suffix("").parts): p
        for p in MODULES
        if p.name != "__init__.py"
    }
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        graph[module] = set()
        for name in imports(path):
            for candidate in (name, name.rpartition(".")[0]):
                if candidate in files and candidate != module:
                    graph[module].add(candidate)
                    break
    return graph


def _circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of more than one file that can all reach each other."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in graph[waiting.pop()] - seen:
                seen.add(target)
                waiting.append(target)
        return seen

    reach = {module: reachable(module) for module in graph}
    groups = {
        tuple(sorted(other for other in reach[module] if module in reach[other]))
        for module in graph
        if module in reach[module]
    }
    return [list(group) for group in sorted(groups)]


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports in functions and for type checking count too: they are edges for a reader."""
    assert _circles(_file_imports()) == []


def test_a_circle_would_be_seen() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_a_class_name_is_used_once_in_the_package() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].add(name_of(path))
    assert {name: sorted(paths) for name, paths in found.items() if len(paths) > 1} == {}


def test_a_folder_can_be_overlooked() -> None:
    folders = defaultdict(int)
    for path in MODULES:
        if path.name != "__init__.py":
            folders[str(path.parent.relative_to(PACKAGE))] += 1
    crowded = {name for name, files in folders.items() if files > FILES_IN_A_FOLDER}
    assert crowded <= set(LARGER_FOLDERS), "split it, or say here why it is one"
    assert set(LARGER_FOLDERS) <= set(folders), "an exemption that nothing needs"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_readable_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 600, "a concept is missing a name"
    assert ast.get_docstring(tree), "a module says what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


def _packages() -> set[str]:
    """Top-level packages and modules, and the packages within them: ``api``, ``engines/acp``."""
    return {
        str(path.parent.relative_to(PACKAGE))
        for path in MODULES
        if path.name == "__init__.py" and path.parent != PACKAGE
    }


def test_every_package_has_one_line_in_the_map() -> None:
    rows = re.findall(r"^\| `([\w/]+)/` \|", ARCHITECTURE, re.MULTILINE)
    assert sorted(rows) == sorted(_packages())


def test_the_map_says_what_may_be_imported() -> None:
    """The column of the map is the table that the imports are held to."""
    section = ARCHITECTURE.partition("## What may import what")[2].partition("\n## ")[0]
    said = {
        package: set(re.findall(r"`([\w.]+)`", cell))
        for package, cell in re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    }
    drawn = {name: ALLOWED[name] - {name} for name in ALLOWED if name not in {"widgets"}}
    assert said == drawn


def test_the_picture_is_drawn_from_the_code() -> None:
    assert architecture_picture.PICTURE.read_text() == architecture_picture.draw(), (
        "python tools/architecture_picture.py"
    )
    top = {name.partition("/")[0] for name in _packages()}
    modules = {p.stem for p in MODULES if p.parent == PACKAGE}
    assert top | modules == set(architecture_picture.BOXES) | set(architecture_picture.NOT_DRAWN)


def test_the_client_does_not_load_the_server() -> None:
    code = (
        "import sys, loopat_jupyter.client; "
        "print(sorted({'tornado', 'jupyter_server', 'pydantic_ai', 'sqlite3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
