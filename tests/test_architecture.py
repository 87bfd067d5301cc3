"""The house stands: imports point one way, modules and functions stay readable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import loopat_jupyter

PACKAGE = Path(loopat_jupyter.__file__).parent
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "static" not in p.parts)

# What a room may import of the others. "loops.ports" and the like name single modules.
ALLOWED: dict[str, set[str]] = {
    "loops": {"loops"},
    "store": {"store", "loops"},
    "engines": {
        "engines",
        "entry_points",
        "loops.ports",
        "loops.destinations",
        "loops.errors",
        "context.acp_agents",
        "context.config_file",
        "context.config_models",
        "context.vaults",
    },
    "sandboxes": {
        *("sandboxes", "entry_points", "loops.ports", "loops.destinations", "loops.errors"),
    },
    "context": {"context", "loops"},
    "workspace": {"workspace", "loops"},
    # Pure: it makes documents of the domain's records, and the api sends them.
    "transcript": {"transcript", "loops.models", "loops.transcript_source"},
    "api": {"api", "loops", "transcript"},
    "client": {"client"},
    "notebook": {"notebook", "client"},
    "cli": {"cli", "client"},
    "entry_points": {"loops.errors"},
    "config": {"context", "engines", "sandboxes", "loops.ports", "store.database"},
    "extension": {
        "config",
        "api",
        "loops",
        "engines",
        "sandboxes",
        "context",
        "workspace",
        "store",
    },
    "widgets": {"notebook.widgets"},
    "__init__": {"extension", "notebook.magics", "notebook.widgets", "widgets"},
}

# `doctor` and `token` may open the home; the demo is told what the model is called.
OPENS_THE_HOME: dict[str, set[str]] = {
    "cli/_checks.py": {"context", "engines", "sandboxes", "store", "extension", "loops.errors"},
    "cli/_engine_checks.py": {
        *("config", "context", "engines", "entry_points", "extension", "loops.errors"),
    },
    "cli/_sandbox_checks.py": {"sandboxes", "extension", "loops.errors"},
    "cli/_doctor.py": {"context", "engines", "sandboxes", "store", "extension", "loops.errors"},
    "cli/_tokens.py": {"store", "api.auth", "loops.models"},
}


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


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    allowed = ALLOWED[room] | OPENS_THE_HOME.get(str(path.relative_to(PACKAGE)), set())
    for name in imports(path):
        if name.startswith("__version__"):
            continue
        assert any(name == one or name.startswith(f"{one}.") for one in allowed), (
            f"{path.relative_to(PACKAGE)} must not import {name}"
        )


def test_the_import_walk_sees_relative_and_absolute_imports() -> None:
    found = set(imports(PACKAGE / "extension.py"))
    assert "api.routes.handlers" in found
    assert "store.Store" in found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_is_readable_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 400, "a concept is missing a name"
    if text.strip():
        assert ast.get_docstring(tree), "a module says what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


def test_the_client_does_not_load_the_server() -> None:
    import subprocess
    import sys

    code = (
        "import sys, loopat_jupyter.client; "
        "print(sorted({'tornado', 'jupyter_server', 'pydantic_ai', 'sqlite3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
