"""Finds files by pattern and lines by regular expression, for the agent.

It runs in :mod:`.file_process`. Symlinks to directories are not followed, so that a search ends;
version-control directories are left out. Results are bounded, and ``truncated`` says whether
something was left out.
"""

# ruff: noqa: PTH112, PTH116, PTH117, PTH118, PTH119

from __future__ import annotations

import itertools
import os
import re
import stat

from loopat_jupyter.sandboxes.inside.file_ops import FileOperationRefused, WorkdirPaths
from loopat_jupyter.sandboxes.inside.line_endings import is_utf16, split_lines, with_lf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


SKIPPED_DIRECTORIES = frozenset({".git", ".hg", ".svn"})
LINE_MAX = 500
REPLY_MAX = 256 * 1024
GREP_FILE_MAX = 16 * 1024 * 1024


def glob(
    paths: WorkdirPaths, pattern: str, path: str | None = None, limit: int = 1000
) -> dict[str, Any]:
    if not pattern:
        raise FileOperationRefused("A pattern is needed.")
    base = paths.absolute(path or ".")
    if os.path.isabs(pattern):
        base, pattern = _split_absolute(pattern)
    matches = glob_regex(pattern)
    found: list[tuple[float, str]] = []
    for relative, full in walk_files(base):
        if matches.fullmatch(relative):
            found.append((_mtime(full), full))
    found.sort(key=lambda item: (-item[0], item[1]))
    return limit_results("paths", [name for _, name in found], limit)


def _split_absolute(pattern: str) -> tuple[str, str]:
    """The part of an absolute pattern before its first wildcard component, and the rest."""
    parts = pattern.split("/")
    fixed = 0
    while fixed < len(parts) - 1 and not re.search(r"[*?\[{]", parts[fixed]):
        fixed += 1
    return "/".join(parts[:fixed]) or "/", "/".join(parts[fixed:])


def _mtime(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0  # removed since it was listed; it sorts last


def walk_files(base: str) -> Iterator[tuple[str, str]]:
    """Every file below ``base``: its path from there, and its whole path."""
    if not os.path.isdir(base):
        raise NotADirectoryError(20, "Not a directory", base)
    for directory, names, files in os.walk(base):
        names[:] = sorted(n for n in names if n not in SKIPPED_DIRECTORIES)
        for name in sorted(files):
            full = os.path.join(directory, name)
            yield full[len(base.rstrip("/")) + 1 :], full


def glob_regex(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression: ``**/`` matches any directories, ``{a,b}`` one of them."""
    pattern = os.path.normpath(pattern)
    out, i, depth = "", 0, 0
    while i < len(pattern):
        char = pattern[i]
        if pattern.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
            continue
        if pattern.startswith("**", i):
            out, i = out + ".*", i + 2
            continue
        if char == "[" and (close := pattern.find("]", i + 2)) > 0:
            body = pattern[i + 1 : close].replace("\\", "\\\\")
            out, i = out + "[" + ("^" + body[1:] if body[0] == "!" else body) + "]", close + 1
            continue
        if char == "{" and "}" in pattern[i:]:
            out, depth = out + "(?:", depth + 1
        elif char == "}" and depth:
            out, depth = out + ")", depth - 1
        elif char == "," and depth:
            out += "|"
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char)
        i += 1
    return re.compile(out + ")" * depth, re.DOTALL)


def grep(
    paths: WorkdirPaths,
    pattern: str,
    path: str | None = None,
    glob: str | None = None,
    mode: str = "files_with_matches",
    limit: int = 500,
    ignore_case: bool = False,
    before: int = 0,
    after: int = 0,
    multiline: bool = False,
    type: str | None = None,
) -> dict[str, Any]:
    """Search with the meanings that ripgrep gives these options.

    Beside ``lines`` and ``truncated`` the answer has ``unseen``: in sentences, what was not looked
    at or is not shown in full.
    """
    if mode not in ("files_with_matches", "content", "count"):
        raise FileOperationRefused(f"There is no output mode {mode}.")
    if type is not None and type not in FILE_TYPES:
        raise FileOperationRefused(
            f"There is no file type {type}; there are {', '.join(FILE_TYPES)}. Or use glob."
        )
    wanted = _pattern(pattern, ignore_case, multiline)
    unseen = _SearchOmissions()
    lines: list[str] = []
    for name in _files_to_search(paths.absolute(path or "."), glob, type):
        text = _searchable_text(name, unseen)
        hits = _matching_lines(text, wanted, multiline, first_only=mode == "files_with_matches")
        if not hits:
            continue
        if mode == "content":
            lines += _with_context(name, split_lines(text), hits, before, after, unseen)
        else:
            lines.append(name if mode == "files_with_matches" else f"{name}:{len(hits)}")
        if len(lines) > limit:
            break
    return {**limit_results("lines", lines, limit), "unseen": unseen.sentences()}


FILE_TYPES = {
    "c": ("*.c", "*.h"),
    "cpp": ("*.cpp", "*.cc", "*.cxx", "*.hpp", "*.hh", "*.h"),
    "css": ("*.css", "*.scss", "*.less"),
    "csv": ("*.csv", "*.tsv"),
    "go": ("*.go",),
    "html": ("*.html", "*.htm"),
    "java": ("*.java",),
    "js": ("*.js", "*.jsx", "*.mjs", "*.cjs"),
    "json": ("*.json", "*.jsonl"),
    "julia": ("*.jl",),
    "md": ("*.md", "*.markdown"),
    "php": ("*.php",),
    "py": ("*.py", "*.pyi"),
    "r": ("*.r", "*.R", "*.Rmd"),
    "ruby": ("*.rb",),
    "rust": ("*.rs",),
    "sh": ("*.sh", "*.bash"),
    "sql": ("*.sql",),
    "toml": ("*.toml",),
    "ts": ("*.ts", "*.tsx"),
    "txt": ("*.txt",),
    "xml": ("*.xml",),
    "yaml": ("*.yaml", "*.yml"),
    "ipynb": ("*.ipynb",),
}


class _SearchOmissions:
    """What a search passed over or cut, to be said with its result."""

    def __init__(self) -> None:
        self.binary = self.unreadable = self.cut_lines = 0
        self.large: list[str] = []

    def sentences(self) -> list[str]:
        found = []
        if self.binary:
            found.append(f"{self.binary} binary files were passed over.")
        if self.unreadable:
            found.append(f"{self.unreadable} files could not be read.")
        if self.large:
            named = ", ".join(self.large[:3])
            more = f" and {len(self.large) - 3} more" if len(self.large) > 3 else ""
            found.append(
                f"Of {named}{more} only the first {GREP_FILE_MAX >> 20} MiB were searched."
            )
        if self.cut_lines:
            found.append(f"{self.cut_lines} lines are cut after {LINE_MAX} characters.")
        return found


def _pattern(pattern: str, ignore_case: bool, multiline: bool) -> re.Pattern[str]:
    flags = re.IGNORECASE if ignore_case else 0
    try:
        return re.compile(pattern, flags | (re.DOTALL | re.MULTILINE if multiline else 0))
    except re.error as error:
        raise FileOperationRefused(f"The pattern is not a regular expression: {error}.") from None


def _files_to_search(base: str, only: str | None, kind: str | None) -> Iterator[str]:
    if not os.path.isdir(base):
        os.stat(base)
        yield base
        return
    matches = glob_regex(only) if only else None
    kinds = [glob_regex(one) for one in FILE_TYPES[kind]] if kind else []
    for relative, full in walk_files(base):
        name = os.path.basename(relative)
        if kinds and not any(one.fullmatch(name) for one in kinds):
            continue
        if matches is None or matches.fullmatch(relative if only and "/" in only else name):
            yield full


def _searchable_text(name: str, unseen: _SearchOmissions) -> str:
    """The text of a file, UTF-16 too; empty, and noted, for what is no text or cannot be read."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        unseen.unreadable += 1
        return ""
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        data = file.read(GREP_FILE_MAX)
        if file.read(1):
            unseen.large.append(name)
    if is_utf16(data):
        return data.decode("utf-16", "replace")
    if b"\0" in data[:8192]:
        unseen.binary += 1
        return ""
    return data.decode(errors="replace")


def _matching_lines(
    text: str, wanted: re.Pattern[str], multiline: bool, *, first_only: bool
) -> list[int]:
    """The numbers, from 1, of the lines that match or that a match across lines touches."""
    if not multiline:
        numbers = (n for n, line in enumerate(split_lines(text), 1) if wanted.search(line))
        return list(itertools.islice(numbers, 1 if first_only else None))
    shown = with_lf(text)
    found: dict[int, None] = {}
    for match in wanted.finditer(shown):
        first = shown.count("\n", 0, match.start()) + 1
        last = first + match.group().rstrip("\n").count("\n")
        found.update(dict.fromkeys(range(first, last + 1)))
        if first_only:
            break
    return list(found)


def _with_context(
    name: str, lines: list[str], hits: list[int], before: int, after: int, unseen: _SearchOmissions
) -> list[str]:
    """``name:number:line`` for hits, ``name-number-line`` around them, ``--`` between groups."""
    matched = set(hits)
    shown = sorted(
        {n for hit in hits for n in range(max(1, hit - before), min(len(lines), hit + after) + 1)}
    )
    out: list[str] = []
    last = 0
    for number in shown:
        if out and number > last + 1 and (before or after):
            out.append("--")
        mark = ":" if number in matched else "-"
        line = lines[number - 1]
        if len(line) > LINE_MAX:
            unseen.cut_lines += 1
            line = line[:LINE_MAX]
        out.append(f"{name}{mark}{number}{mark}{line}")
        last = number
    return out


def limit_results(key: str, found: list[str], limit: int) -> dict[str, Any]:
    """At most ``limit`` entries and ``REPLY_MAX`` bytes of them."""
    kept: list[str] = []
    size = 0
    for entry in found[:limit]:
        size += len(entry.encode(errors="replace")) + 1
        if size > REPLY_MAX:
            break
        kept.append(entry.encode(errors="replace").decode())
    return {key: kept, "truncated": len(kept) < len(found)}


OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {"glob": glob, "grep": grep}
