"""The memory of all processes of a sandbox together, watched from inside: standard library only.

Where no cgroup is delegated to us, nothing in the kernel limits a sum over processes; each
process has a limit of its own (``RLIMIT_DATA``), and this looks at the sum a few times a second
while there is any process. Shared pages are counted once for the decision (proportional sizes),
which is dearer and therefore done only when the plain sum is over.
"""

# Lean on purpose: what this file imports is paid for in every sandbox.
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
    """Kills the largest process when all together are over the limit."""

    def __init__(self, timers: Timers, limit: int, report_kill: Callable[[int, str], None]) -> None:
        self._timers = timers
        self._limit = limit
        self._report_kill = report_kill
        self._running = False

    def ensure_running(self) -> None:
        """A process was started; look until there is none."""
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
    """Threads of this user that are not below ``root``: what its limit of processes counts too."""
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
    """A process's share of memory, each shared page divided among its users."""
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
