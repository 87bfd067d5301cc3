"""Control groups (version 2): one for each sandbox, where a subtree is delegated to the server.

A cgroup limits all processes of a loop together, in the kernel, and can kill them all at once. The
server makes them only where the system has delegated a subtree to it: a systemd service with
``Delegate=yes``, a container that may write its own cgroup, or a directory that the administrator
names. Elsewhere another program manages the tree, and would undo the changes.

Layout, below the delegated directory::

    loopat-server/               the processes that were in the directory itself: a cgroup with
                                 children that have controllers must hold no process of its own
    loopat-<pid>-<start time>/   a server's sandboxes
        <loop id>-<n>/           one sandbox

:func:`find_delegation` only reads; :func:`claim` makes the layout. The kernel answers reads of
these files without waiting; :meth:`Cgroup.destroy` waits and belongs in a thread.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from loopat_jupyter.sandboxes.runtime.reaper import start_time

SERVER_LEAF = "loopat-server"
CONTROLLERS = ("memory", "pids", "cpu")
"""The controllers that are used where they are available."""
PERIOD = 100_000
"""Microseconds over which the kernel accounts for processor time."""
SWAP = "memory.swap.max"
"""This file is missing where the kernel does not account for swap."""
END_TIMEOUT = 5.0
DELEGATED_MARKS = ("user.delegate", "trusted.delegate")
"""Extended attributes by which systemd marks a cgroup as delegated."""

log = logging.getLogger(__name__)
_numbers = count(1)


class NotDelegated(Exception):
    """No subtree is delegated to this server; the message says why."""


@dataclass(frozen=True, slots=True)
class Delegation:
    """A directory of the cgroup tree that this server may divide."""

    path: Path
    controllers: tuple[str, ...]
    holds_server: bool
    """The server itself is in it, and has to be moved into a leaf first."""


@dataclass(frozen=True, slots=True)
class ServerCgroup:
    """This server's own cgroup, below which sandboxes get theirs."""

    path: Path
    controllers: tuple[str, ...]

    def release(self) -> None:
        """Remove it, when all sandboxes have ended."""
        remove_cgroup(self.path)


# ------------------------------------------------------------------ finding


def find_delegation(where: str = "auto", root: Path = Path("/")) -> Delegation:
    """The delegated subtree: detected (``auto``), or the directory that the administrator names.

    ``root`` is where ``/proc`` and the cgroup mount are looked for. Raises :class:`NotDelegated`.
    """
    if where == "none":
        raise NotDelegated("it is turned off")
    if where != "auto":
        return _check_delegation(Path(where), inhabited=False)
    mount, below = _find_mount(root)
    own = _own_directory(root, mount, below)
    if own.name == SERVER_LEAF:
        return _check_delegation(own.parent, inhabited=False)
    if not _is_delegated(own, mount):
        raise NotDelegated("the system has not delegated this server's cgroup to it")
    return _check_delegation(own, inhabited=True)


def _find_mount(root: Path) -> tuple[Path, str]:
    """The mount point of cgroup2, and which directory of the hierarchy is mounted there."""
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[0] == "cgroup2":
            _, _, _, below, point, *_ = fields.split()
            return root / point.lstrip("/"), below
    raise NotDelegated("there is no cgroup version 2 on this host")


def _own_directory(root: Path, mount: Path, below: str) -> Path:
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            path = line[3:]
            break
    else:
        raise NotDelegated("this server is in no cgroup of version 2")
    relative = os.path.relpath(path, below)
    if relative.startswith(".."):
        raise NotDelegated("this server's cgroup is not visible here")
    return mount / relative


def _is_delegated(own: Path, mount: Path) -> bool:
    """Whether systemd marked it, or it is the root of a container's own cgroup namespace. The
    real root of the hierarchy has no file ``cgroup.type``."""
    if own == mount / ".":
        own = mount
    if own == mount and (own / "cgroup.type").exists():
        return True
    return any(_has_mark(own, mark) for mark in DELEGATED_MARKS)


def _has_mark(path: Path, mark: str) -> bool:
    try:
        return os.getxattr(path, mark) == b"1"
    except OSError:
        return False


def _check_delegation(path: Path, *, inhabited: bool) -> Delegation:
    try:
        available = (path / "cgroup.controllers").read_text().split()
    except OSError:
        raise NotDelegated("there is no such cgroup") from None
    controllers = tuple(name for name in CONTROLLERS if name in available)
    if not controllers:
        raise NotDelegated(f"it has none of the controllers {', '.join(CONTROLLERS)}")
    for name in ("", "cgroup.procs", "cgroup.subtree_control"):
        if not os.access(path / name, os.W_OK):
            raise NotDelegated("this server may not write to its cgroup")
    return Delegation(path, controllers, inhabited)


# ------------------------------------------------------------------ claiming


def claim(found: Delegation) -> ServerCgroup:
    """Make this server's own cgroup. Raises :class:`NotDelegated` when the kernel refuses."""
    path = found.path
    own = path / f"loopat-{os.getpid()}-{start_time(os.getpid())}"
    try:
        if found.holds_server:
            _move_into_leaf(path)
        _enable(path, found.controllers)
        reap_stale(path)
        own.mkdir(exist_ok=True)
        _enable(own, found.controllers)
    except OSError as error:
        why = error.strerror or "it was refused"
        raise NotDelegated(f"this server's cgroup could not be divided: {why}") from error
    return ServerCgroup(own, found.controllers)


def _move_into_leaf(path: Path) -> None:
    leaf = path / SERVER_LEAF
    leaf.mkdir(exist_ok=True)
    for pid in (path / "cgroup.procs").read_text().split():
        try:
            (leaf / "cgroup.procs").write_text(pid)
        except ProcessLookupError:
            continue


def _enable(path: Path, controllers: tuple[str, ...]) -> None:
    (path / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def reap_stale(path: Path) -> list[str]:
    """Kill and remove what servers that have ended left behind; the names of their cgroups."""
    reaped = []
    for server in sorted(path.glob("loopat-*-*")):
        _, pid, started = server.name.split("-", 2)
        if not pid.isdecimal() or start_time(int(pid)) == started:
            continue
        for group in server.iterdir():
            if group.is_dir():
                Cgroup(group).destroy()
        remove_cgroup(server)
        reaped.append(server.name)
    return reaped


def remove_cgroup(path: Path) -> None:
    try:
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("The cgroup %s could not be removed: %s", path.name, error.strerror)


# ------------------------------------------------------------------ one sandbox


def count_oom_kills(files: Iterable[Path]) -> int:
    """How many processes were killed because memory ran out, according to these files; 0 when the
    cgroup was removed."""
    found = 0
    for file in files:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        found += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return found


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """The limits of one sandbox: bytes, processes, and processors (0: no limit)."""

    memory: int
    processes: int
    cpus: float


def _settings(controllers: tuple[str, ...], share: CgroupLimits) -> dict[str, str]:
    """The files of a cgroup that hold its limits, and what is written to each."""
    found: dict[str, str] = {}
    if "memory" in controllers:
        found |= {"memory.max": str(share.memory), SWAP: "0"}
    if "pids" in controllers:
        found["pids.max"] = str(share.processes)
    if "cpu" in controllers and share.cpus:
        found["cpu.max"] = f"{round(share.cpus * PERIOD)} {PERIOD}"
    return found


class Cgroup:
    """The cgroup of one sandbox."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, division: ServerCgroup, loop_id: str, share: CgroupLimits) -> Cgroup:
        """Create a sandbox's cgroup with its limits. Raises ``OSError``."""
        path = division.path / f"{loop_id}-{next(_numbers)}"
        path.mkdir()
        try:
            for file, value in _settings(division.controllers, share).items():
                if file != SWAP or (path / file).exists():
                    (path / file).write_text(value)
        except OSError:
            remove_cgroup(path)
            raise
        return cls(path)

    def open_procs(self) -> int:
        """``cgroup.procs``, open for writing; the caller owns the descriptor."""
        return os.open(self.path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def add_process(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def oom_kills(self) -> int:
        """How many processes of this cgroup the kernel has killed because memory ran out."""
        return count_oom_kills([self.path / "memory.events"])

    def destroy(self) -> None:
        """Kill everything in it, wait until all has ended, and remove it."""
        try:
            self._kill()
        except FileNotFoundError:
            return
        remove_cgroup(self.path)

    def _kill(self) -> None:
        deadline = time.monotonic() + END_TIMEOUT
        with (self.path / "cgroup.events").open() as events:
            poll = select.poll()
            poll.register(events, select.POLLPRI)
            while "populated 1" in events.read() and (left := deadline - time.monotonic()) > 0:
                self._signal()
                poll.poll(left * 1000)
                events.seek(0)

    def _signal(self) -> None:
        kill = self.path / "cgroup.kill"
        if kill.exists():
            kill.write_text("1")
            return
        for pid in (self.path / "cgroup.procs").read_text().split():  # before Linux 5.14
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
