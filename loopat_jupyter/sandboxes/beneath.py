"""Opening a path so that no symlink on the way can lead it elsewhere."""

from __future__ import annotations

import os
from pathlib import Path


def open_beneath(path: Path) -> int:
    """Open a directory component by component, refusing every symlink; ``O_PATH``."""
    flags = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
    fd = os.open("/", flags)
    for part in path.parts[1:]:
        parent = fd
        try:
            fd = os.open(part, flags, dir_fd=parent)
        finally:
            os.close(parent)
    return fd
