"""Several ES modules become one text; what is not understood is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from loopat_jupyter.notebook.widgets import _esm

from .test_javascript import node  # noqa: F401 - a fixture

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Puts sources where :func:`compose` looks for them."""
    monkeypatch.setattr(_esm, "STATIC", tmp_path)

    def put(**sources: str) -> None:
        for name, text in sources.items():
            stem, _, kind = name.rpartition("_")
            (tmp_path / f"{stem}.{kind}").write_text(text)

    return put


def run(node: str, text: str, tmp_path: Path) -> str:  # noqa: F811
    module = tmp_path / "made.mjs"
    module.write_text(text)
    code = f"console.log((await import({str(module)!r})).default)"
    command = [node, "--input-type=module", "-e", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_names_of_modules_never_meet(node: str, write: Write, tmp_path: Path) -> None:  # noqa: F811
    write(
        main_js=(
            'import { name as first } from "./a.js";\n'
            'import {\n  name as second,\n  twice,\n} from "./b.js";\n'
            'import lib from "./lib.cjs";\n'
            "const name = twice(first);\n"
            "export default [name, second, lib.word].join();\n"
        ),
        a_js='export const name = "a";\n',
        b_js=(
            'import { name as other } from "./a.js";\n'
            "const hidden = `b${other}`;\n"
            "export { hidden as name };\n"
        ),
        lib_cjs='module.exports = { word: "lib" };\n',
    )
    (tmp_path / "b.js").write_text(
        'import { name as other } from "./a.js";\n'
        "export function twice(text) {\n  return text + text;\n}\n"
        "const hidden = `b${other}`;\n"
        "export { hidden as name };\n"
    )
    assert run(node, _esm.compose("main.js"), tmp_path) == "aa,ba,lib"


def test_a_module_runs_once_however_often_it_is_imported(
    node: str,  # noqa: F811
    write: Write,
    tmp_path: Path,
) -> None:
    write(
        main_js=(
            'import { count } from "./a.js";\nimport { count as again } from "./b.js";\n'
            "export default count === again;\n"
        ),
        a_js="export const count = {};\n",
        b_js='import { count } from "./a.js";\nexport { count };\n',
    )
    assert run(node, _esm.compose("main.js"), tmp_path) == "true"


def test_a_circle_is_refused(write: Write) -> None:
    write(a_js='import { b } from "./b.js";\n', b_js='import { a } from "./a.js";\n')
    with pytest.raises(ValueError, match=r"a\.js imports itself, by way of b\.js"):
        _esm.compose("a.js")


@pytest.mark.parametrize(
    "line",
    [
        'import * as all from "./b.js";',
        'import "./b.js";',
        'import { a } from "elsewhere";',
        'export * from "./b.js";',
        "export let a = 1;",
    ],
)
def test_a_form_that_is_not_known_is_refused(write: Write, line: str) -> None:
    write(a_js=f"{line}\n", b_js="export const a = 1;\n")
    with pytest.raises(ValueError, match="cannot compose"):
        _esm.compose("a.js")
