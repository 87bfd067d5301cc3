"""Opens a path without following a symlink, on the way or at its end. Runs in the server."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

FLAGS = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW


def open_beneath(path: Path, *, directory: bool = True) -> int:
    """Open an absolute path (``O_PATH``) component by component.

    ``directory``: it must be one. Raises ``OSError``, for a symlink too.
    """
    fd = os.open("/", FLAGS | os.O_DIRECTORY)
    for depth, part in enumerate(path.parts[1:], start=2):
        parent = fd
        last = depth == len(path.parts) and not directory
        try:
            fd = os.open(part, FLAGS if last else FLAGS | os.O_DIRECTORY, dir_fd=parent)
        finally:
            os.close(parent)
    if stat.S_ISLNK(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return fd
