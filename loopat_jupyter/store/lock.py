"""One server at a time owns a home.

The lock is an ``flock`` on ``$LOOPAT_HOME/lock``: the kernel drops it when its owner dies, so a
crashed server never leaves a home locked. The file holds the owner's pid for the message only.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class HomeLocked(Exception):
    """Another server owns the home. ``pid`` is that server's, ``None`` where it is not known."""

    def __init__(self, home: Path, pid: int | None) -> None:
        owner = f"the server with pid {pid}" if pid else "another server"
        super().__init__(
            f"{home} is in use by {owner}. One server at a time owns a home: stop that server, or "
            "set LOOPAT_HOME (or LoopatExtension.home) to another folder."
        )
        self.pid = pid


class HomeLock:
    """Held from :meth:`acquire` to :meth:`release`, or to the end of the process."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / "lock"
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises :class:`HomeLocked` at once when somebody else holds it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise HomeLocked(self._home, owner_pid(self._home)) from error
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def owner_pid(home: Path) -> int | None:
    """The pid written by the home's owner, ``None`` where nobody is known to own it."""
    try:
        return int((home / "lock").read_text())
    except (OSError, ValueError):
        return None


def is_locked(home: Path) -> bool:
    """Whether a server owns ``home`` right now."""
    try:
        fd = os.open(home / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)
