"""The browser half's pure parts, tested by Node's own test runner; and that it composes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from loopat_jupyter.notebook.widgets._esm import STATIC, compose

HERE = Path(__file__).parent
OWN_SOURCES = [path for path in STATIC.rglob("*.js") if "vendor" not in path.parts]
NEEDED = (20, 6)
"""Node's version from which on its runner has all that the tests use."""


@pytest.fixture(scope="module")
def node() -> str:
    """Node, or a skip with the reason; on CI it must be there."""
    found = shutil.which("node")
    if found is None:
        problem = "Node is not installed"
    else:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
        version = tuple(int(part) for part in said.stdout.strip().lstrip("v").split(".")[:2])
        problem = "" if version >= NEEDED else f"Node {said.stdout.strip()} is too old"
    if problem:
        if os.environ.get("CI") == "true":
            pytest.fail(problem)
        pytest.skip(problem)
    assert found is not None
    return found


def test_the_pure_parts_do_what_their_tests_say(node: str) -> None:
    files = sorted(str(path) for path in (HERE / "js").glob("*.test.js"))
    assert files
    done = subprocess.run([node, "--test", *files], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("entry", ["chat.js", "prompt.js"])
def test_a_composed_widget_is_one_module_with_a_default(
    node: str, entry: str, tmp_path: Path
) -> None:
    module = tmp_path / "widget.mjs"
    module.write_text(compose(entry))
    code = (
        "globalThis.window = undefined;"
        f"const made = (await import({str(module)!r})).default();"
        "console.log(typeof made.initialize, typeof made.render)"
    )
    command = [node, "--input-type=module", "-e", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["function", "function"], done.stderr


def test_every_source_is_used_and_says_what_it_is_for() -> None:
    composed = compose("chat.js") + compose("prompt.js")
    for path in OWN_SOURCES:
        text = path.read_text()
        assert text.startswith("/**\n * "), f"{path.name} does not say what it is for"
        assert len(text.splitlines()) <= 400, f"{path.name}: a concept is missing a name"
        assert text.partition("*/")[0] in composed, f"{path.name} is not part of any widget"


def test_no_source_writes_html() -> None:
    """Nodes are made of text, or by the sanitiser; there is no other way."""
    for path in OWN_SOURCES:
        text = path.read_text()
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert way not in text, f"{path.name} uses {way}"
        addresses = set(re.findall(r"\w+://[^\s\"]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, f"{path.name} names {addresses}"


def test_what_is_vendored_keeps_its_licence() -> None:
    for library in (STATIC / "vendor").iterdir():
        assert (library / "LICENSE").read_text().strip(), library.name
        assert (library / "README.md").read_text().startswith("# "), library.name
        for source in library.glob("*.*js"):
            assert "sourceMappingURL" not in source.read_text(), source.name
