"""Walking through a workdir whose contents are hostile.

From the workdir's own descriptor one component at a time, none of them ``..``, each opened without
following a symlink: whatever is swapped for what meanwhile, a walk ends in a directory that was
reached by real directories, or fails. What is at the end is looked at before it is opened, and what
is opened is what was looked at; so no pipe or device is ever opened.

What a process inside can move a walk to by renaming directories it could reach itself. What it
could *link to* and the server could read better than it: a file with several links is served only
where it belongs to whom the workdir does.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..loops.errors import DomainError, InvalidParameter, NotFound, PermissionRefused, StoreError

PATH_LIMIT, NAME_LIMIT = 4096, 255
"""Bytes of a whole path and of one name; what Linux takes."""

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Without waiting: a process inside can hold a lease on its file."""


def parse_path(path: str) -> tuple[str, ...]:
    """The parts of a path that a caller named. Raises ``InvalidParameter``."""
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


def quoted_name(path: str) -> str:
    """``path`` as a message quotes it."""
    return repr(path if len(path) <= 100 else f"{path[:99]}…")


@contextmanager
def as_api_errors(path: str) -> Iterator[None]:
    """Turns what the system says about ``path`` into words that name no path of the host."""
    try:
        yield
    except OSError as error:
        raise _message(error, path) from error


def _message(error: OSError, path: str) -> DomainError:
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
    """A directory of the server's own, as a descriptor to walk from."""
    fd = os.open(path, _STEP)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def open_directory(top: int, parts: Sequence[str], *, make_for: int | None = None) -> Iterator[int]:
    """The directory ``parts`` below ``top``, to walk and to name things in.

    ``make_for``: make what is missing, for that user (-1: the server's own). Raises ``OSError``.
    """
    fd = os.dup(top)
    try:
        for part in parts:
            further = _open_child(fd, part, make_for)
            os.close(fd)
            fd = further
        yield fd
    finally:
        os.close(fd)


def _open_child(parent: int, part: str, make_for: int | None) -> int:
    try:
        return os.open(part, _STEP, dir_fd=parent)
    except FileNotFoundError:
        if make_for is None:
            raise
    try:
        os.mkdir(part, 0o755, dir_fd=parent)
    except FileExistsError:  # a process inside was quicker
        return os.open(part, _STEP, dir_fd=parent)
    fd = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(fd).st_uid == os.geteuid():  # and not what was swapped in for it
            os.fchmod(fd, 0o755)
            os.fchown(fd, make_for, make_for)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_file(top: int, parts: Sequence[str]) -> tuple[int, os.stat_result]:
    """Open a regular file for reading, and what it was found to be.

    Raises:
        OSError, InvalidParameter: it is not there, or no regular file.
        PermissionRefused: it is a link to somebody else's file.
    """
    with open_directory(top, parts[:-1]) as parent:
        look = os.open(parts[-1], _LOOK, dir_fd=parent)
    try:
        found = os.fstat(look)
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
        # Through the descriptor that was looked at: there is no name any more to be swapped.
        return os.open(f"/proc/self/fd/{look}", _READ), found
    finally:
        os.close(look)
