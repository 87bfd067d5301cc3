"""What kind of file system a path lies on.

SQLite's WAL needs shared memory between processes and does not work over a network; NFS homes
are common on JupyterHub, so the store asks before it opens its file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre",
        "ncpfs", "nfs", "nfs4", "ocfs2", "panfs", "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs",
    }
)  # fmt: skip
LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.ntfs-3g"})

_ESCAPE = re.compile(rb"\\([0-7]{3})")


def file_system_type(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The type of the file system that holds ``path``; ``None`` where that is not known."""
    try:
        lines = mountinfo.read_bytes().splitlines()
        target = path.resolve()
    except OSError:
        return None
    best: tuple[int, str] | None = None
    for line in lines:
        left, _, right = line.partition(b" - ")
        mount_point = Path(os.fsdecode(_ESCAPE.sub(_unescape, left.split()[4])))
        depth = len(mount_point.parts)
        # Of two mounts on the same point the later one hides the earlier.
        if target.is_relative_to(mount_point) and (best is None or depth >= best[0]):
            best = (depth, os.fsdecode(right.split()[0]))
    return best[1] if best else None


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 8)])


def is_network_file_system(path: Path) -> bool:
    """FUSE is taken for a network unless it is known to be local: the rollback journal is always
    right, only slower."""
    kind = file_system_type(path)
    if kind is not None and kind.startswith("fuse."):
        return kind not in LOCAL_FUSE
    return kind in NETWORK_FILE_SYSTEMS
