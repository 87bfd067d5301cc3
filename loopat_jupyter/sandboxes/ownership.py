"""Handing a loop's directories to the user its sandbox runs as, where the server is root."""

from __future__ import annotations

import os
from pathlib import Path


def hand_over(top: Path, uid: int) -> None:
    """Make everything under ``top`` belong to ``uid``.

    ``top`` itself goes last, so that its owner says whether the whole was done; a tree that was
    handed over before costs one ``stat``. Symlinks are never followed.
    """
    if top.lstat().st_uid == uid:
        return
    for _, directories, files, parent in os.fwalk(top, topdown=False, follow_symlinks=False):
        for name in (*directories, *files):
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if found.st_uid != uid:
                os.chown(name, uid, uid, dir_fd=parent, follow_symlinks=False)
    os.chown(top, uid, uid, follow_symlinks=False)
