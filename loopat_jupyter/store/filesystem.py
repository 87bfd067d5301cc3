"""What kind of file system a path lies on.

SQLite's WAL needs shared memory between processes and does not work over a network; NFS homes
are common on JupyterHub, so the store asks before it opens its file.
"""

from __future__ import annotations

from pathlib import Path

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p", "afs", "ceph", "cifs", "coda", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "gfs2",
        "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "vboxsf",
    }
)  # fmt: skip


def file_system_type(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The type of the file system that holds ``path``, or ``None`` where it cannot be told."""
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
        target = path.resolve()
    except OSError:
        return None
    best: tuple[int, str] | None = None
    for line in lines:
        left, _, right = line.partition(" - ")
        mount_point = Path(left.split()[4].encode().decode("unicode_escape"))
        depth = len(mount_point.parts)
        # Of two mounts on the same point the later one hides the earlier.
        if target.is_relative_to(mount_point) and (best is None or depth >= best[0]):
            best = (depth, right.split()[0])
    return best[1] if best else None


def is_network_file_system(path: Path) -> bool:
    return file_system_type(path) in NETWORK_FILE_SYSTEMS
