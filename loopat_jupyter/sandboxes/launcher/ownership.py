"""Makes a loop's directories belong to the user that its sandbox runs as, where the server is root.

Runs in the server, before the launcher starts the sandbox.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path


def prepare_directories(paths: Iterable[Path], uid: int | None) -> None:
    """Make a loop's own directories usable for the sandbox that is about to start.

    ``uid`` is the user that a root server's sandbox runs as, else ``None``.
    """
    for own in paths:
        if uid is not None:
            chown_tree(own, uid)
        # The agent may have closed its own directory; then no sandbox could start in it.
        own.chmod(own.stat().st_mode | 0o700)


def grant_traverse(paths: Iterable[Path], top: Path, uid: int) -> None:
    """Let the group ``uid``, and nobody else, traverse ``top`` and the directories between it and
    ``paths``. For a root server that cannot mount."""
    for parent in dict.fromkeys(parent for path in paths for parent in path.resolve().parents):
        if parent.is_relative_to(top) and not parent.stat().st_mode & stat.S_IXOTH:
            os.chown(parent, -1, uid)
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | stat.S_IXGRP)


def chown_tree(top: Path, uid: int) -> None:
    """Change the owner of what the server put under ``top`` to ``uid``.

    A directory is changed after all that it holds, so that its own owner shows whether all of it
    was changed. Once ``top`` was changed only its direct entries are read, and those of the server
    (a repository cloned meanwhile, say) are changed as a whole. Symlinks are never followed.
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
