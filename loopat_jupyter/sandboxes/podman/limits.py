"""Reads which limits are really set on a container.

Rootless podman ignores limits on cgroup version 1 with only a warning, and sets none where its
runtime has no cgroup to manage. So they are read from the cgroup of the container's process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""Version 1 has a very large number for "no limit"."""
LIMIT_FILES = {
    # controller: its file in version 2, and its hierarchy and file in version 1
    "memory": ("memory.max", "memory.limit_in_bytes"),
    "pids": ("pids.max", "pids.max"),
    "cpu": ("cpu.max", "cpu.cfs_quota_us"),
}


OOM_KILL_FILES = ("memory.events", "memory.oom_control")
"""Where the kernel counts the processes that it killed because memory ran out, in version 2 and in
version 1."""


def controllers_in_force(pid: int, proc: Path = Path("/proc"), top: Path = CGROUPS) -> set[str]:
    """The controllers that limit this process in its own cgroup."""
    return {
        name
        for name, (version_2, version_1) in LIMIT_FILES.items()
        if any(map(_is_limited, _cgroup_files(pid, name, version_2, version_1, proc, top)))
    }


def oom_kill_files(pid: int, proc: Path = Path("/proc"), top: Path = CGROUPS) -> list[Path]:
    """The files of this process's cgroup that count kills because memory ran out."""
    return [
        file for file in _cgroup_files(pid, "memory", *OOM_KILL_FILES, proc, top) if file.exists()
    ]


def _cgroup_files(
    pid: int, name: str, version_2: str, version_1: str, proc: Path, top: Path
) -> Iterator[Path]:
    """The paths where a controller's file for the process's own cgroup can be."""
    for line in (proc / str(pid) / "cgroup").read_text().splitlines():
        _, hierarchies, path = line.split(":", 2)
        if hierarchies == "":
            yield top / path.lstrip("/") / version_2
        elif name in hierarchies.split(","):
            yield top / name / path.lstrip("/") / version_1


def _is_limited(file: Path) -> bool:
    try:
        value = file.read_text().split()[0]
    except (OSError, IndexError):
        return False
    return value not in ("max", "-1") and int(value) < UNLIMITED
