"""What a Landlock sandbox may open: rights on paths of the host.

Without mounts nothing can be covered, and a Landlock rule can only allow. A directory that holds
something masked is therefore split: its other children are granted one by one, down to the mask.
Such a directory itself cannot be listed, and what is made in it later is not granted.

Nothing below ``/proc/<pid>`` is granted to the agent: it would show the command lines of every
process on the host.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.landlock.ruleset import (
    DEVICE,
    MAKE_REG,
    READ,
    READ_DIR,
    READ_FILE,
    REMOVE_FILE,
    TRUNCATE,
    WRITE,
    WRITE_FILE,
)
from loopat_jupyter.sandboxes.runtime.mounts import ETC_SHOWN, Bind, host_mounts, is_masked
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

ETC_READABLE = (
    *("group", "host.conf", "hosts", "nsswitch.conf", "passwd"),
    *("bash.bashrc", "bashrc", "inputrc", "profile", "profile.d"),
    *("debian_version", "*-release", "python3*"),
)
"""Patterns of what has to be the host's own without mounts: accounts, and files that programs fail
on when they exist and cannot be read."""
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
TERMINALS = ("pts", "ptmx")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
PROC_FILES = (
    *("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version"),
    *("sys/kernel/cap_last_cap", "sys/kernel/ngroups_max", "sys/kernel/osrelease"),
    *("sys/kernel/ostype", "sys/kernel/pid_max", "sys/kernel/random/uuid"),
    *("sys/kernel/threads-max", "sys/vm/max_map_count", "sys/vm/overcommit_memory"),
)


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights over a path and what lies below it. ``shared``: a folder of the server's user, on
    the way to which no symlink is followed."""

    path: Path
    rights: int
    shared: bool = False


@cache
def host_grants(settings: SandboxSettings) -> tuple[Grant, ...]:
    """What is the same for every loop: the system, the Python environment, devices."""
    entries, _, masks = host_mounts(settings)
    grants = [
        g
        for e in entries
        if isinstance(e, Bind)
        for g in split_around_masks(Grant(e.source, READ), masks)
    ]
    shown = [path for pattern in ETC_READABLE for path in sorted(Path("/etc").glob(pattern))]
    for path in (*shown, *(Path("/etc") / name for name in ETC_SHOWN)):
        if path.exists():
            grants += split_around_masks(Grant(path.resolve(), READ), masks)
    for top, names, rights in (("/dev", DEVICES, DEVICE), ("/proc", PROC_FILES, READ_FILE)):
        paths = [Path(top) / name for name in names]
        grants += [Grant(path, rights) for path in paths if path.exists()]
    if SHARED_MEMORY.is_dir():
        # No right to list it: objects of others can be opened by their exact names only.
        shared = MAKE_REG | REMOVE_FILE | READ_FILE | WRITE_FILE | TRUNCATE
        grants.append(Grant(SHARED_MEMORY, shared))
    return tuple(dict.fromkeys(grants))


def loop_grants(spec: SandboxSpec, settings: SandboxSettings) -> list[Grant]:
    """The loop's own directories and its folders."""
    _, _, masks = host_mounts(settings)
    grants = [Grant(own.resolve(), WRITE) for own in (spec.workdir, spec.home)]
    for folder in spec.folders:
        rights = WRITE if folder.write else READ
        grants += split_around_masks(Grant(folder.source, rights, shared=True), masks)
    return grants


def supervisor_grants() -> list[Grant]:
    """What the supervisor may open besides: ``/proc``, to find processes, and terminals."""
    found = [Grant(Path("/proc"), READ_FILE | READ_DIR)]
    return [*found, *(Grant(Path("/dev") / name, DEVICE | READ_DIR) for name in TERMINALS)]


def split_around_masks(grant: Grant, masks: Iterable[Path]) -> Iterator[Grant]:
    """The grant without what is masked: itself, or grants on what lies beside the masks."""
    top = grant.path
    if any(top == mask for mask in masks) or (grant.shared and is_masked(top, masks)):
        return
    inside = [mask for mask in masks if mask.is_relative_to(top) and os.path.lexists(mask)]
    if not inside:
        yield grant
        return
    with os.scandir(top) as children:
        names = sorted(c.name for c in children if not c.is_symlink())
    for name in names:
        yield from split_around_masks(Grant(top / name, grant.rights, grant.shared), inside)
