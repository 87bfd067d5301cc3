"""Paths that only root can reach, made reachable for the user a root server drops to.

In a private mount namespace the closed directories on the way are covered with open, empty ones
in which just what is needed is shown again, where it was. Folders are shown through an idmapped
mount, as in the other tiers. Needs the capability to mount; where a container keeps that from
root, everything has to lie where the user can get to it.

Runs in the launcher's child: standard library only, and no import of ours.
"""

# Lean on purpose: the launcher imports it.
# ruff: noqa: PTH103, PTH116, PTH120

from __future__ import annotations

import importlib
import os
import stat
import sys
from typing import Any

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 16384, 1 << 18


def make_reachable(request: dict[str, Any], fds: list[int]) -> None:
    """Show each path of ``request["reach"]`` where it is, in a namespace of this process's own."""
    launcher: Any = sys.modules[f"{__package__}.process"]
    launcher.check(launcher.libc.unshare(CLONE_NEWNS), "unshare")
    launcher.mount("none", "/", None, MS_REC | MS_PRIVATE)
    places = sorted(request["reach"], key=lambda place: len(place[1]))
    sources = {path: launcher.reopen(fds[index]) for index, path, _ in places}
    for closed in outermost(closed_ancestor(path) for path in sources):
        launcher.mount("loopat", closed, "tmpfs", 0, "mode=0755,size=1m")
    remapped = [path for _, path, mapped in places if mapped]
    users = open_user_namespace(request, bool(remapped))
    for _, path, mapped in places:
        source = sources[path]
        if not os.path.lexists(path):
            create_mount_point(path, stat.S_ISDIR(os.fstat(source).st_mode))
        elif not mapped and not any(path.startswith(f"{shown}/") for shown in remapped):
            continue
        if not (mapped and launcher.bind_mapped(source, path, users)):
            launcher.mount(f"/proc/self/fd/{source}", path, None, launcher.MS_BIND | MS_REC)


def open_user_namespace(request: dict[str, Any], wanted: bool) -> int:
    idmap = importlib.import_module(f"{__package__}.idmap")
    return idmap.namespace(request["uid"]) if wanted and idmap.supported() else -1


def closed_ancestor(path: str) -> str | None:
    """The outermost directory on the way to ``path`` that others may not enter."""
    parent = ""
    for part in path.split("/")[1:-1]:
        parent = f"{parent}/{part}"
        if not os.stat(parent).st_mode & stat.S_IXOTH:
            return parent
    return None


def outermost(closed: Any) -> list[str]:
    """Each once, and none that another one hides."""
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
