"""Which processes descend from a process, as ``/proc`` shows it.

The server, the launcher and the supervisor inside a sandbox all use this module. The last two run
without the package (see ``launcher/__init__.py`` and ``inside/__init__.py``), so it imports ``os``
alone. A process that ends while the table is read is left out.
"""

# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os

STATE, PARENT, THREADS, START_TIME, RESIDENT_PAGES = 0, 1, 17, 19, 21
"""Indexes into what :func:`read_stat` returns. proc_pid_stat(5) counts its fields from 1, and the
pid and the command's name come before these."""
ENDED = (b"Z", b"X")
"""States of a process that has ended and has not been waited for."""


def read_stat(pid: int) -> list[bytes] | None:
    """The fields of ``/proc/PID/stat`` from the state on; ``None`` when there is no such process.

    The command's name may hold spaces and parentheses, so the fields begin after the last one.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split(None, RESIDENT_PAGES + 1)
    except (FileNotFoundError, ProcessLookupError):
        return None


def process_table() -> dict[int, list[bytes]]:
    """The fields of every process that this one can see, by pid."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return {pid: fields for pid in pids if (fields := read_stat(pid)) is not None}


def children(parent: int) -> list[int]:
    """The processes whose parent is ``parent``, those that wait to be reaped included."""
    return [pid for pid, fields in process_table().items() if int(fields[PARENT]) == parent]


def descendants(root: int, table: dict[int, list[bytes]] | None = None) -> list[int]:
    """The processes below ``root``, without it; each comes after its parent."""
    parents = {
        pid: int(fields[PARENT])
        for pid, fields in (process_table() if table is None else table).items()
    }
    found: list[int] = []
    generation = {root}
    while generation := {pid for pid, parent in parents.items() if parent in generation}:
        found += generation
    return found
