"""Which limits are in force on this host, and by which mechanism; for people to read.

The kernel's cgroups limit a loop as a whole; resource limits hold for each process; the
supervisor's memory watch reads the sum of memory a few times a second. A limit that nothing
enforces is listed as such.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from loopat_jupyter.loops.ports.sandbox import SandboxIsolation
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

TREE = "tree"
MEMORY_GAP = (
    "memory is limited by a watcher, so a short peak above the limit is possible; files in "
    "/tmp and /dev/shm are limited on their own, and shared memory that no process maps is "
    "not counted"
)
PROCESSES_GAP = "the number of processes is not limited"
STRAY_GAP = "a process that leaves its parents and outlives a killed supervisor is not found"


@dataclass(frozen=True, slots=True)
class LimitInForce:
    """A limit and what enforces it: ``cgroup``, ``rlimit``, ``watcher``, ``supervisor``, or
    ``not at all``."""

    limit: str
    by: str


def enforced_controllers(settings: SandboxSettings) -> frozenset[str]:
    """The cgroup controllers in force where the server gives each sandbox a cgroup. ``tree`` stands
    for the cgroup itself, through which all its processes can be killed."""
    return frozenset((*settings.cgroup.controllers, TREE)) if settings.cgroup else frozenset()


def limits_in_force(tier: str, controllers: Iterable[str]) -> list[LimitInForce]:
    """What enforces each limit in a tier. ``controllers`` are the cgroup controllers in force."""
    held = frozenset(controllers)
    processes = "not at all" if tier == "none" else "rlimit"
    return [
        LimitInForce("memory of a loop", "cgroup" if "memory" in held else "watcher"),
        LimitInForce("memory of a process", "rlimit"),
        LimitInForce("processes of a loop", "cgroup" if "pids" in held else processes),
        LimitInForce("processor time of a loop", "cgroup" if "cpu" in held else "not at all"),
        LimitInForce("open files of a process", "rlimit"),
        LimitInForce("size of a file", "rlimit"),
        LimitInForce("output and time of a command", "supervisor"),
    ]


def with_cgroups(isolation: SandboxIsolation, controllers: Iterable[str]) -> SandboxIsolation:
    """The isolation with these controllers in force: one more thing enforced, and fewer gaps."""
    closed = {"memory": MEMORY_GAP, "pids": PROCESSES_GAP, TREE: STRAY_GAP}
    held = frozenset(controllers)
    if not held:
        return isolation
    gone = {closed[name] for name in held if name in closed}
    if "memory" in held:
        gone |= {gap for gap in isolation.gaps if gap.startswith("memory is limited by a watcher")}
    return replace(
        isolation,
        enforced=(*isolation.enforced, f"the kernel's cgroups hold: {_named(held)}"),
        gaps=tuple(gap for gap in isolation.gaps if gap not in gone),
    )


def _named(controllers: frozenset[str]) -> str:
    words = {"memory": "memory", "pids": "the number of processes", "cpu": "processor time"}
    return ", ".join(word for name, word in words.items() if name in controllers)
