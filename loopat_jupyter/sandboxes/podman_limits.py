"""Whether the limits that podman was asked for are really set on a container.

Rootless podman ignores them on cgroup version 1 with only a warning, and where its runtime has
no cgroup to manage it sets none. So the kernel is asked, for the process itself.
"""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""Version 1 says "no limit" with a very large number."""
FILES = {
    # controller: its file in version 2, and its hierarchy and file in version 1
    "memory": ("memory.max", "memory.limit_in_bytes"),
    "pids": ("pids.max", "pids.max"),
    "cpu": ("cpu.max", "cpu.cfs_quota_us"),
}


def controllers_in_force(pid: int, proc: Path = Path("/proc"), top: Path = CGROUPS) -> set[str]:
    """The controllers that limit this process, as seen in its own cgroup."""
    found = set()
    for line in (proc / str(pid) / "cgroup").read_text().splitlines():
        _, hierarchies, path = line.split(":", 2)
        for name, (version_2, version_1) in FILES.items():
            if hierarchies == "":
                file = top / path.lstrip("/") / version_2
            elif name in hierarchies.split(","):
                file = top / name / path.lstrip("/") / version_1
            else:
                continue
            if _limits(file):
                found.add(name)
    return found


def _limits(file: Path) -> bool:
    try:
        value = file.read_text().split()[0]
    except (OSError, IndexError):
        return False
    return value not in ("max", "-1") and int(value) < UNLIMITED
