"""File operations on behalf of the agent: resolve, read, write and edit.

They run in :mod:`.file_process`, one process for each. Relative paths are relative to the workdir.
Every failure is one line for the agent. A ``confined`` write cannot leave the workdir, also where a
path is changed meanwhile: the parent directory is opened one component at a time, below the
workdir, without following a symlink.
"""

# ruff: noqa: PTH103, PTH112, PTH118, PTH208, PTH117, PTH119, PTH120, SIM105

from __future__ import annotations

import os
import stat

from loopat_jupyter.sandboxes.inside.line_endings import (
    EditableText,
    is_utf16,
    split_lines,
    with_endings_of,
    with_lf,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


LINE_MAX = 2000
READ_MAX = 256 * 1024
FILE_MAX = 64 * 1024 * 1024
BINARY_PROBE = 8192


class FileOperationRefused(Exception):
    """The operation was refused; the message is for the agent."""


class WorkdirPaths:
    """Paths as the agent gives them: relative to the workdir, ``~`` for the home, or absolute."""

    def __init__(self, workdir: str, home: str) -> None:
        self.workdir = os.path.realpath(workdir)
        self.home = home

    def absolute(self, path: str) -> str:
        if not isinstance(path, str) or not path:
            raise FileOperationRefused("A path is needed.")
        if "\0" in path:
            raise FileOperationRefused("A path cannot contain a NUL character.")
        if path == "~" or path.startswith("~/"):
            path = self.home + path[1:]
        return path if os.path.isabs(path) else self.join(path)

    def join(self, path: str) -> str:
        """A relative path joined to the workdir; ``..`` is left for the file system to resolve."""
        return self.workdir if path == "." else f"{self.workdir}/{path.removeprefix('./')}"

    def contains(self, real: str) -> bool:
        return real == self.workdir or real.startswith(self.workdir + "/")


def resolve(paths: WorkdirPaths, path: str) -> dict[str, Any]:
    real = os.path.realpath(paths.absolute(path))
    return {"path": real, "inside_workdir": paths.contains(real)}


# ------------------------------------------------------------------ read


def read(paths: WorkdirPaths, path: str, offset: int = 1, limit: int = 2000) -> dict[str, Any]:
    absolute = paths.absolute(path)
    try:
        data = read_regular_file(absolute, path)
    except FileNotFoundError:
        similar = similar_name(absolute)
        if similar is None:
            raise
        data = read_regular_file(similar, path)
    else:
        similar = None
    lines = split_lines(decode_text(path, data))
    start = max(1, offset)
    chosen: list[str] = []
    size = 0
    for line in lines[start - 1 : start - 1 + max(0, limit)]:
        if len(line) > LINE_MAX:
            line = f"{line[:LINE_MAX]} [... {len(line) - LINE_MAX} more characters]"
        size += len(line.encode(errors="replace")) + 1
        if size > READ_MAX:
            break
        chosen.append(line)
    return {
        "lines": chosen,
        "start": start,
        "total_lines": len(lines),
        "truncated": start - 1 + len(chosen) < len(lines),
        **({"found_as": similar} if similar is not None else {}),
    }


def similar_name(absolute: str) -> str | None:
    """The one file beside ``absolute`` whose name looks the same: other spaces, or composed
    letters.

    Screenshots of macOS have a narrow no-break space in their names, which nobody can type.
    """
    import unicodedata

    def looks(name: str) -> str:
        folded = unicodedata.normalize("NFC", name)
        return "".join(" " if char.isspace() else char for char in folded)

    folder, name = os.path.split(absolute)
    try:
        found = [other for other in os.listdir(folder) if looks(other) == looks(name)]
    except OSError:
        return None
    return os.path.join(folder, found[0]) if len(found) == 1 else None


def read_regular_file(absolute: str, path: str) -> bytes:
    """The content of a regular file of at most ``FILE_MAX`` bytes.

    ``O_NONBLOCK``: opening a fifo that nobody writes to would otherwise wait.
    """
    fd = os.open(absolute, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            raise FileOperationRefused(f"{path} is a directory.")
        if not stat.S_ISREG(found.st_mode):
            raise FileOperationRefused(f"{path} is not a regular file.")
        if found.st_size > FILE_MAX:
            raise FileOperationRefused(
                f"{path} is larger than {FILE_MAX >> 20} MiB; use Bash to look into it."
            )
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(FILE_MAX)
    finally:
        os.close(fd)


def decode_text(path: str, data: bytes) -> str:
    if is_utf16(data):
        raise FileOperationRefused(
            f"{path} is UTF-16 text; convert it (iconv -f utf-16 -t utf-8) to work with it."
        )
    if b"\0" in data[:BINARY_PROBE]:
        raise FileOperationRefused(f"{path} is a binary file.")
    return data.decode(errors="replace")


# ------------------------------------------------------------------ write


def write(paths: WorkdirPaths, path: str, text: str, confined: bool = False) -> dict[str, Any]:
    parent, name, real = open_parent(paths, path, confined, create=True)
    try:
        before = _existing_text(parent, name)
        if before is not None:
            text = with_endings_of(text, before)
        data = text.encode(errors="replace")
        created = replace_file(parent, name, data)
    finally:
        os.close(parent)
    return {"created": created, "bytes": len(data), "path": real}


def edit(
    paths: WorkdirPaths,
    path: str,
    old: str,
    new: str,
    replace_all: bool = False,
    confined: bool = False,
) -> dict[str, Any]:
    if old == new:
        raise FileOperationRefused("The old and the new text are the same.")
    if not old:
        raise FileOperationRefused("The old text is empty; use Write to make a file.")
    parent, name, real = open_parent(paths, path, confined, create=False)
    try:
        data = read_regular_file(f"/proc/self/fd/{parent}/{name}", path)
        if b"\0" in data[:BINARY_PROBE]:
            raise FileOperationRefused(f"{path} is a binary file.")
        text = EditableText(data.decode(errors="surrogateescape"))
        old, new = with_lf(old), with_lf(new)
        count = text.count(old)
        if count == 0:
            raise FileOperationRefused(f"The old text was not found in {path}.")
        if count > 1 and not replace_all:
            raise FileOperationRefused(
                f"The old text occurs {count} times in {path}; give more of its surroundings, "
                "or replace all."
            )
        replace_file(parent, name, text.replaced(old, new).encode(errors="surrogateescape"))
    finally:
        os.close(parent)
    return {"replacements": count, "path": real}


def _existing_text(parent: int, name: str) -> str | None:
    """The text that a file to be replaced holds; ``None`` where there is none, or no text."""
    try:
        data = read_regular_file(f"/proc/self/fd/{parent}/{name}", name)
    except (OSError, FileOperationRefused):
        return None
    return None if b"\0" in data[:BINARY_PROBE] else data.decode(errors="surrogateescape")


def open_parent(
    paths: WorkdirPaths, path: str, confined: bool, create: bool
) -> tuple[int, str, str]:
    """The open directory that holds the file, the file's name there, and its whole path.

    The path's symlinks are resolved first. When ``confined``, the result must lie in the workdir
    and is opened again component by component without following a symlink, so that a symlink made
    meanwhile is refused.
    """
    real = os.path.realpath(paths.absolute(path))
    if os.path.isdir(real):
        raise FileOperationRefused(f"{path} is a directory.")
    if not confined:
        parent = os.path.dirname(real)
        if create:
            os.makedirs(parent, exist_ok=True)
        return os.open(parent, os.O_PATH | os.O_DIRECTORY), os.path.basename(real), real
    if not paths.contains(real):
        raise FileOperationRefused(f"{path} is outside the working directory.")
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    fd = os.open(paths.workdir, flags)
    *parts, name = real[len(paths.workdir) + 1 :].split("/")
    for part in parts:
        fd = open_child(fd, part, flags, create, path)
    return fd, name, real


def open_child(parent: int, part: str, flags: int, create: bool, path: str) -> int:
    """Open the directory ``part`` of ``parent``, and close ``parent``."""
    try:
        if create:
            try:
                os.mkdir(part, dir_fd=parent)
            except FileExistsError:
                pass  # the usual case; os.open() refuses what is no directory
        return os.open(part, flags, dir_fd=parent)
    except NotADirectoryError:
        raise FileOperationRefused(f"{path} is outside the working directory.") from None
    finally:
        os.close(parent)


def replace_file(parent: int, name: str, data: bytes) -> bool:
    """Replace the file as a whole, through a temporary file beside it, and keep its mode.

    Returns whether the file is new. Raises :class:`FileOperationRefused` for what is no regular
    file, or cannot be written to: renaming over it would need no right to it.
    """
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        found = None
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise FileOperationRefused(f"{name} is not a regular file.")
    if found is not None and not os.access(
        f"/proc/self/fd/{parent}/{name}", os.W_OK, follow_symlinks=False
    ):
        raise FileOperationRefused(f"{name}: Permission denied")
    temporary = f".{name[:200]}.{os.urandom(4).hex()}"
    mode = stat.S_IMODE(found.st_mode) if found is not None else 0o666
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, mode, dir_fd=parent)
    try:
        with os.fdopen(fd, "wb") as file:
            if found is not None:
                os.fchmod(fd, mode)
            file.write(data)
        os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        os.unlink(temporary, dir_fd=parent)
        raise
    return found is None


OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "resolve": resolve,
    "read": read,
    "write": write,
    "edit": edit,
}
