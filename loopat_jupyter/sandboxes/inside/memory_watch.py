"""Limits the memory of all processes of a sandbox together, by looking at it from inside.

Where no cgroup is delegated to the server, nothing in the kernel limits a sum over processes: each
has a limit of its own (``RLIMIT_DATA``), and the watch reads the sum a few times a second while
there is any process. The decision counts shared pages once (proportional set sizes). Those take
the kernel longer to compute, so they are read only when the plain sum is over the limit.
"""

# ruff: noqa: PTH116, PTH123

from __future__ import annotations

import os

from loopat_jupyter.sandboxes import process_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from loopat_jupyter.sandboxes.inside.types import Timers
else:
    import _signal as signal  # the module around it costs milliseconds


INTERVAL = 0.2
PAGE = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Kills the largest process when all together are over ``limit`` bytes."""

    def __init__(self, timers: Timers, limit: int, report_kill: Callable[[int, str], None]) -> None:
        self._timers = timers
        self._limit = limit
        self._report_kill = report_kill
        self._running = False

    def ensure_running(self) -> None:
        """Call this when a process was started; the watch goes on until there is none."""
        if not self._running:
            self._running = True
            self._timers.call_later(INTERVAL, self._check)

    def _check(self) -> None:
        sizes = resident_bytes(os.getpid())
        if sum(sizes.values()) > self._limit:
            sizes = {pid: proportional_bytes(pid, size) for pid, size in sizes.items()}
            if sum(sizes.values()) > self._limit:
                self._kill(max(sizes, key=lambda pid: sizes[pid]))
        self._running = bool(sizes)
        if self._running:
            self._timers.call_later(INTERVAL, self._check)

    def _kill(self, pid: int) -> None:
        limit = self._limit / (1 << 30)
        self._report_kill(pid, f"killed: the sandbox used more than its {limit:.3g} GiB of memory")
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def resident_bytes(root: int) -> dict[int, int]:
    """Resident bytes of every process below ``root``."""
    table = process_tree.process_table()
    return {
        pid: int(table[pid][process_tree.RESIDENT_PAGES]) * PAGE
        for pid in process_tree.descendants(root, table)
    }


def count_other_threads(root: int) -> int:
    """Threads of this user outside the processes below ``root``: ``RLIMIT_NPROC`` counts them."""
    table = process_tree.process_table()
    count = 0
    for pid in table.keys() - set(process_tree.descendants(root, table)):
        try:
            if os.stat(f"/proc/{pid}").st_uid == os.getuid():
                count += int(table[pid][process_tree.THREADS])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return count


def proportional_bytes(pid: int, resident_size: int) -> int:
    """A process's memory with each shared page divided by the number of its users (PSS)."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:
        return resident_size
    return resident_size
