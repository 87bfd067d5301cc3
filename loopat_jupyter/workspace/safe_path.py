"""Opening paths in a workdir whose contents are hostile and may change at any time.

A path is opened component by component with ``openat``, from the workdir's own descriptor, no
component being ``..`` and each one with ``O_NOFOLLOW``. Whatever a process inside swaps in
meanwhile, the result was reached through real directories only, or the call fails. The last
component is opened with ``O_PATH`` first, which calls no driver and waits for no writer; its type
is checked on that descriptor, and the file is then opened through the descriptor. So no pipe or
device is ever opened, and what was checked is what is read.

By renaming directories a process inside can lead a path only to places that it can reach itself.
By a hard link it could name a file that the server may read and it may not: a file with several
links is served only where it has the owner of the workdir.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..loops.errors import DomainError, InvalidParameter, NotFound, PermissionRefused, StoreError

PATH_LIMIT, NAME_LIMIT = 4096, 255
"""Bytes of a whole path and of one name: Linux's PATH_MAX and NAME_MAX."""

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ANY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""``O_NONBLOCK``: a process inside may hold a lease (``F_SETLEASE``) on its file, and a plain open
would wait until it is given up."""


def parse_path(path: str) -> tuple[str, ...]:
    """The components of a path that a caller gave. Raises ``InvalidParameter``."""
    if len(path.encode()) > PATH_LIMIT:
        raise InvalidParameter(f"path: a path has at most {PATH_LIMIT} bytes.")
    parts = tuple(path.split("/"))
    for part in parts:
        if part in ("", ".", "..") or "\0" in part or len(part.encode()) > NAME_LIMIT:
            raise InvalidParameter(
                f"path: {quoted_name(path)} cannot be a path in the workdir. Give names of at most "
                f"{NAME_LIMIT} bytes with / between them, from the workdir on, without . or .."
            )
    return parts


# Marks that turn the direction of what follows: with one a name reads as another.
_DIRECTION_MARKS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def has_deceptive_characters(path: str) -> bool:
    """Whether a new file should not get this name: it holds what cannot be seen and changes how the
    rest is read. Spaces of any kind, joiners, soft hyphens and letters of every script are fine.
    """
    return any(
        char in _DIRECTION_MARKS
        or char == "\N{REPLACEMENT CHARACTER}"
        or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        for char in path
    )


def quoted_name(path: str) -> str:
    """``path`` quoted for a message, cut to 100 characters."""
    return repr(path if len(path) <= 100 else f"{path[:99]}…")


@contextmanager
def as_api_errors(path: str) -> Iterator[None]:
    """Turn an ``OSError`` about ``path`` into a ``DomainError`` that names no path of the host."""
    try:
        yield
    except OSError as error:
        raise _domain_error(error, path) from error


def _domain_error(error: OSError, path: str) -> DomainError:
    if error.errno == errno.ENOENT:
        return NotFound(f"There is no {quoted_name(path)} in the workdir.")
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return InvalidParameter(
            f"path: {quoted_name(path)} does not lead through plain folders. "
            "Symlinks are not followed."
        )
    if error.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
        return InvalidParameter(f"path: {quoted_name(path)} is a folder.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionRefused(
            f"The server may not touch {quoted_name(path)}: its permissions inside the sandbox "
            "shut the server out. Let the agent change them (chmod)."
        )
    if error.errno in (errno.EAGAIN, errno.ETXTBSY):
        return PermissionRefused(
            f"A process in the sandbox holds {quoted_name(path)}. Try again when it has ended."
        )
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "the server's disk is full" if full else (error.strerror or "the file system failed")
    return StoreError(
        f"{quoted_name(path)} could not be read or written: {what}. Nothing was changed."
    )


@contextmanager
def open_root(path: Path) -> Iterator[int]:
    """The descriptor of a directory that only the server can replace. Raises ``OSError``."""
    fd = os.open(path, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def open_directory(top: int, parts: Sequence[str], *, make_for: int | None = None) -> Iterator[int]:
    """The directory ``parts`` below ``top``, as an ``O_PATH`` descriptor for ``dir_fd``.

    ``make_for``: make missing directories, owned by that uid (-1: the server's). Raises
    ``OSError``.
    """
    fd = os.dup(top)
    try:
        for part in parts:
            child = _open_child(fd, part, make_for)
            os.close(fd)
            fd = child
        yield fd
    finally:
        os.close(fd)


def _open_child(parent: int, part: str, make_for: int | None) -> int:
    try:
        return os.open(part, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if make_for is None:
            raise
    try:
        os.mkdir(part, 0o755, dir_fd=parent)
    except FileExistsError:  # a process inside made it first
        return os.open(part, _DIRECTORY, dir_fd=parent)
    fd = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(fd).st_uid == os.geteuid():  # else it is not the one made above
            os.fchmod(fd, 0o755)
            os.fchown(fd, make_for, make_for)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_file(top: int, parts: Sequence[str]) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; the caller closes the descriptor.

    Raises:
        OSError: it does not exist, or cannot be opened.
        InvalidParameter: it is no regular file.
        PermissionRefused: it has several links and another owner than the workdir.
    """
    with open_directory(top, parts[:-1]) as parent:
        checked = os.open(parts[-1], _ANY, dir_fd=parent)
    try:
        found = os.fstat(checked)
        path = "/".join(parts)
        if stat.S_ISDIR(found.st_mode):
            raise InvalidParameter(f"path: {quoted_name(path)} is a folder. List it with ?path=.")
        if not stat.S_ISREG(found.st_mode):
            raise InvalidParameter(
                f"path: {quoted_name(path)} is no regular file. Symlinks are not followed, pipes "
                "and devices are not opened."
            )
        if found.st_nlink > 1 and found.st_uid != os.fstat(top).st_uid:
            raise PermissionRefused(
                f"{quoted_name(path)} is a link to a file that does not belong to the loop."
            )
        # Through the descriptor that was checked: its name may mean another file by now.
        return os.open(f"/proc/self/fd/{checked}", _READ), found
    finally:
        os.close(checked)
