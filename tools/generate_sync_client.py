"""Generates ``loopat_jupyter/client/_sync`` from ``loopat_jupyter/client/_async``.

Usage::

    python tools/generate_sync_client.py           # write the files
    python tools/generate_sync_client.py --check   # exit with 1 where a file differs

``unasync`` translates the code: it drops ``async`` and ``await`` and replaces the names below. It
leaves docstrings and comments alone, so the same names are then replaced in them, and ruff sorts
the imports and formats the result. The generated files are checked in, for users who read them
and because a wheel is then built without these tools.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "python tools/generate_sync_client.py"
SOURCE = ROOT / "loopat_jupyter" / "client" / "_async"
TARGET = ROOT / "loopat_jupyter" / "client" / "_sync"
HANDWRITTEN = {"__init__.py", "concurrency.py"}

HEADER = f"# Generated from ../_async/{{name}} by `{COMMAND}`: edit that file.\n"

NAMES = {
    "AsyncChoice": "Choice",
    "AsyncClient": "Client",
    "AsyncEventStream": "EventStream",
    "AsyncLoop": "Loop",
    "AsyncLoopFiles": "LoopFiles",
    "AsyncLoops": "Loops",
    "AsyncOnChoice": "OnChoice",
    "AsyncTokens": "Tokens",
    "AsyncTransport": "Transport",
    "connect_async": "connect",
    # httpx and the language
    "AsyncBaseTransport": "BaseTransport",
    "AsyncHTTPTransport": "HTTPTransport",
    "AsyncIterator": "Iterator",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "anext": "next",
    "aread": "read",
}

AWAITABLE = re.compile(r"\bAwaitable\[([^][]*)\]")
"""``Awaitable[None]``, what a callback returns: the blocking callback returns ``None`` itself."""

KEYWORD = re.compile(r"\b(?:async|await) (?=\w)")
NAME = re.compile(rf"\b(?:{'|'.join(NAMES)})\b")


def generate(directory: Path) -> list[Path]:
    """Write the blocking modules into ``directory`` and return their paths."""
    sources = sorted(path for path in SOURCE.glob("*.py") if path.name not in HANDWRITTEN)
    rule = unasync.Rule(f"{SOURCE}/", f"{directory}/", additional_replacements=NAMES)
    unasync.unasync_files([str(path) for path in sources], [rule])
    made = [directory / path.name for path in sources]
    for path in made:
        text = AWAITABLE.sub(r"\1", path.read_text("utf-8"))
        text = KEYWORD.sub("", text)  # in docstrings and comments: the code has none left
        text = NAME.sub(lambda match: NAMES[match[0]], text)
        path.write_text(HEADER.format(name=path.name) + text, "utf-8")
    # F401: an import that only the asyncio code uses. UP028: `yield from`, where `async for`
    # has no such form; ruff calls that fix unsafe, since a generator's `send` would behave
    # otherwise, and nobody sends to these.
    _ruff("check", "--fix", "--unsafe-fixes", "--select", "I,F401,UP028", *map(str, made))
    _ruff("format", *map(str, made))
    return made


def _ruff(command: str, *arguments: str) -> None:
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "ruff", command, "--quiet", *config, *arguments], check=True
    )


def outdated() -> list[str]:
    """The names of the checked-in files that are not what their sources give."""
    with tempfile.TemporaryDirectory() as scratch:
        made = {path.name: path.read_bytes() for path in generate(Path(scratch))}
    kept = {
        path.name: path.read_bytes() for path in TARGET.glob("*.py") if path.name not in HANDWRITTEN
    }
    return sorted(name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the blocking client.")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    if not parser.parse_args().check:
        generate(TARGET)
        return 0
    different = outdated()
    if different:
        print(f"{', '.join(different)} in {TARGET.name}: out of date, run `{COMMAND}`")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
