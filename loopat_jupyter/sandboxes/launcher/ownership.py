"""Handing a loop's directories to the user its sandbox runs as, where the server is root."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path


def prepare_directories(places: Iterable[Path], uid: int | None) -> None:
    """A loop's own directories, as its sandbox needs them at the start."""
    for own in places:
        if uid is not None:
            chown_tree(own, uid)
        # The agent may have shut its own directory; then nothing would ever start in it.
        own.chmod(own.stat().st_mode | 0o700)


def grant_traverse(places: Iterable[Path], top: Path, uid: int) -> None:
    """Let the group ``uid``, and nobody else, pass ``top`` and what lies between it and
    ``places``. For a root server that cannot mount."""
    for parent in dict.fromkeys(parent for place in places for parent in place.resolve().parents):
        if parent.is_relative_to(top) and not parent.stat().st_mode & stat.S_IXOTH:
            os.chown(parent, -1, uid)
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXGRP)


def chown_tree(top: Path, uid: int) -> None:
    """Make what the server put under ``top`` belong to ``uid``.

    A directory goes after all that it holds, so that its owner says whether the whole was done.
    Once ``top`` was handed over only its direct entries are looked at, and those that are the
    server's (a repository cloned meanwhile, say) are handed over whole. Symlinks are never
    followed.
    """
    if top.lstat().st_uid != uid:
        _chown_all(top, uid)
        return
    with os.scandir(top) as entries:
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_uid == uid:
                continue
            if entry.is_dir(follow_symlinks=False):
                _chown_all(Path(entry.path), uid)
            else:
                os.chown(entry.path, uid, uid, follow_symlinks=False)


def _chown_all(top: Path, uid: int) -> None:
    for _, directories, files, parent in os.fwalk(top, topdown=False, follow_symlinks=False):
        for name in (*directories, *files):
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if found.st_uid != uid:
                os.chown(name, uid, uid, dir_fd=parent, follow_symlinks=False)
    os.chown(top, uid, uid, follow_symlinks=False)
