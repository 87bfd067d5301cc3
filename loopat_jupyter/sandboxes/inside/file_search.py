"""Finds files by pattern and lines by regular expression, for the agent.

It runs in :mod:`.file_process`. Symlinks to directories are not followed, so that a search ends;
version-control directories are left out. Results are bounded, and ``truncated`` says whether
something was left out.
"""

# ruff: noqa: PTH112, PTH116, PTH117, PTH118, PTH119

from __future__ import annotations

import os
import re
import stat

from loopat_jupyter.sandboxes.inside.file_ops import FileOperationRefused, WorkdirPaths

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
        for name in files:
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
) -> dict[str, Any]:
    if mode not in ("files_with_matches", "content", "count"):
        raise FileOperationRefused(f"There is no output mode {mode}.")
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise FileOperationRefused(f"The pattern is not a regular expression: {error}.") from None
    lines: list[str] = []
    for name in _files_to_search(paths.absolute(path or "."), glob):
        hits = list(_matching_lines(name, wanted, 1 if mode == "files_with_matches" else limit + 1))
        if not hits:
            continue
        if mode == "content":
            lines += [f"{name}:{number}:{text}" for number, text in hits]
        else:
            lines.append(name if mode == "files_with_matches" else f"{name}:{len(hits)}")
        if len(lines) > limit:
            break
    return limit_results("lines", lines, limit)


def _files_to_search(base: str, only: str | None) -> Iterator[str]:
    if not os.path.isdir(base):
        os.stat(base)
        yield base
        return
    matches = glob_regex(only) if only else None
    for relative, full in walk_files(base):
        name = relative if only and "/" in only else os.path.basename(relative)
        if matches is None or matches.fullmatch(name):
            yield full


def _matching_lines(name: str, wanted: re.Pattern[str], limit: int) -> Iterator[tuple[int, str]]:
    """The first ``limit`` matching lines of a text file; nothing for what cannot be read."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return
        data = file.read(GREP_FILE_MAX)
    if b"\0" in data[:8192]:
        return
    count = 0
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if wanted.search(line):
            yield number, line[:LINE_MAX]
            count += 1
            if count >= limit:
                return


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
