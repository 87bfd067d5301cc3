"""Bundles ES modules into one: anywidget takes a widget's JavaScript as a single text.

The sources below ``static/`` are ordinary ES modules that Node and editors understand as they are.
:func:`compose` puts an entry module and what it imports into one text, each module wrapped in a
function of its own, so that their names do not collide. It supports only the forms of import and
export that the sources use, and raises ``ValueError`` for any other::

    import { a, b as c } from "./other.js";      export function f() {}   (async, class, const)
    import whole from "./other.cjs";             export { f, g as h };    (last statement)
                                                 export default …;        (in the entry)

A ``.cjs`` file (as a library ships it) is wrapped as CommonJS; its default is ``module.exports``.

A bundler such as esbuild would support every form, but needs Node, or a binary of its own, for each
build from source and each editable install. This module needs neither, runs when Python imports
the widgets (some milliseconds), and the code in the browser's debugger is that in the repository.
"""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import\s+(?:(\w+)|\{([^}]*)\})\s+from\s+"(\.[^"]+)";[ \t]*$', re.MULTILINE)
_EXPORT = re.compile(
    r"^export (?=(?:async )?function\*? (\w+)|class (\w+)|const (\w+))", re.MULTILINE
)
_EXPORT_LIST = re.compile(r"^(.*?)export\s*\{([^}]*)\};?\s*\Z", re.DOTALL)
_DEFAULT = re.compile(r"^export default ", re.MULTILINE)
_LEFT_OVER = re.compile(r"^(?:import\b|export\b).*$", re.MULTILINE)


def compose(entry: str) -> str:
    """The module ``static/<entry>`` and all that it imports, as one module.

    Raises:
        ValueError: modules import each other in a circle, or a form is not supported.
    """
    composer = _Composer()
    name = composer.add(STATIC / entry, ())
    return "\n".join([*composer.texts, f"export default {name}.default;\n"])


def styles(*names: str) -> str:
    """The style sheets ``static/<name>``, one after the other."""
    return "\n".join((STATIC / name).read_text("utf-8") for name in names)


class _Composer:
    """Collects modules in the order in which they must run, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._names: dict[Path, str] = {}

    def add(self, path: Path, above: tuple[Path, ...]) -> str:
        """Add ``path`` after its imports, and return the name of its exports object."""
        path = path.resolve()
        if path in above:
            raise ValueError(f"{path.name} imports itself, by way of {above[-1].name}")
        if path not in self._names:
            text = path.read_text("utf-8")
            wrapped = _common_js(text) if path.suffix == ".cjs" else self._es(path, text, above)
            name = f"$m{len(self._names)}_{re.sub(r'[^A-Za-z0-9]', '_', path.stem)}"
            self._names[path] = name
            self.texts.append(f"const {name} = {wrapped};")
        return self._names[path]

    def _es(self, path: Path, text: str, above: tuple[Path, ...]) -> str:
        def bind(match: re.Match[str]) -> str:
            whole, names, target = match.groups()
            source = self.add(path.parent / target, (*above, path))
            wanted = f"default: {whole}" if whole else _renamed(names, " as ", ": ")
            return f"const {{ {wanted} }} = {source};"

        body = _IMPORT.sub(bind, text)
        exports = ["".join(filter(None, found)) for found in _EXPORT.findall(body)]
        body = _EXPORT.sub("", body)
        if _DEFAULT.search(body):
            body = _DEFAULT.sub("const $default = ", body)
            exports.append("default: $default")
        if listed := _EXPORT_LIST.match(body):
            body = listed[1]
            exports.append(_renamed(listed[2], " as ", ": ", turned=True))
        if unknown := _LEFT_OVER.search(body):
            raise ValueError(f"{path.name}: cannot compose {unknown[0]!r}")
        return f"(() => {{\n{body}\nreturn {{ {', '.join(exports)} }};\n}})()"


def _renamed(names: str, between: str, instead: str, *, turned: bool = False) -> str:
    """``a, b as c`` as the members of an object pattern (or, ``turned``, of an object)."""
    members = []
    for name in filter(None, (piece.strip() for piece in names.split(","))):
        inner, _, outer = name.partition(between)
        pair = (outer, inner) if turned else (inner, outer)
        members.append(instead.join(pair) if outer else name)
    return ", ".join(members)


def _common_js(text: str) -> str:
    return (
        "(() => {\nconst module = { exports: {} };\nconst exports = module.exports;\n"
        f"{text}\nreturn {{ default: module.exports }};\n}})()"
    )
