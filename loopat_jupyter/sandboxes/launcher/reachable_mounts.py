"""Makes paths that only root can reach reachable for the user that a root server drops to.

In a private mount namespace the closed directories on the way are covered with open, empty ones,
in which only what is needed is mounted again at its own path. Folders are mounted idmapped, as in
the other tiers. Needs the capability to mount; where a container withholds it from root, everything
has to lie where the user can reach it. Runs in the launcher's child.
"""

# ruff: noqa: PTH103, PTH116, PTH120

from __future__ import annotations

import os
import stat
from typing import Any

from loopat_jupyter.sandboxes.launcher import idmap, process


def make_reachable(request: dict[str, Any], fds: list[int]) -> None:
    """Mount each path of ``request["reach"]`` where it is, in this process's own namespace."""
    process.check(process.libc.unshare(process.CLONE_NEWNS), "unshare")
    process.mount("none", "/", None, process.MS_REC | process.MS_PRIVATE)
    mounts = sorted(request["reach"], key=lambda mount: len(mount[1]))
    sources = {path: process.reopen(fds[index]) for index, path, _ in mounts}
    for closed in outermost(closed_ancestor(path) for path in sources):
        process.mount("loopat", closed, "tmpfs", 0, "mode=0755,size=1m")
    remapped = [path for _, path, mapped in mounts if mapped]
    user_namespace = idmap.namespace_for(mounts, request["uid"])
    for _, path, mapped in mounts:
        source = sources[path]
        if not os.path.lexists(path):
            create_mount_point(path, stat.S_ISDIR(os.fstat(source).st_mode))
        elif not mapped and not any(path.startswith(f"{shown}/") for shown in remapped):
            continue
        if not (mapped and process.try_bind_mapped(source, path, user_namespace)):
            process.mount(f"/proc/self/fd/{source}", path, None, process.MS_BIND | process.MS_REC)


def closed_ancestor(path: str) -> str | None:
    """The outermost directory on the way to ``path`` that others may not enter."""
    parent = ""
    for part in path.split("/")[1:-1]:
        parent = f"{parent}/{part}"
        if not os.stat(parent).st_mode & stat.S_IXOTH:
            return parent
    return None


def outermost(closed: Any) -> list[str]:
    """The given directories, each once, without those below another one."""
    found: list[str] = []
    for path in sorted({path for path in closed if path is not None}):
        if not any(path.startswith(f"{other}/") for other in found):
            found.append(path)
    return found


def create_mount_point(path: str, directory: bool) -> None:
    if directory:
        os.makedirs(path, 0o755)
        return
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
