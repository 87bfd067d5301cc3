"""Records running sandboxes on disk, so that the next server can kill those that are left.

``run/<loop_id>.pid`` holds the pid and the start time of a sandbox's outer process. A pid alone may
have been reused; with the start time it is unique.
"""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
from pathlib import Path

from loopat_jupyter.sandboxes import process_tree

WAIT_MS = 5000

log = logging.getLogger(__name__)


def start_time(pid: int) -> str | None:
    """When the process was started, in clock ticks since boot; ``None`` when there is none."""
    fields = process_tree.read_stat(pid)
    return fields[process_tree.START_TIME].decode() if fields is not None else None


def record_sandbox(run_dir: Path, loop_id: str, pid: int) -> None:
    """Record a sandbox's outer process, unless it has ended already."""
    try:
        started = start_time(pid)
        if started is None:
            return
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (run_dir / f"{loop_id}.pid").write_text(f"{pid} {started}\n")
    except OSError as error:  # it ends with the server all the same; this is a second safeguard
        log.warning("The sandbox of %s could not be recorded in %s: %s", loop_id, run_dir, error)


def forget_sandbox(run_dir: Path, loop_id: str) -> None:
    (run_dir / f"{loop_id}.pid").unlink(missing_ok=True)


def reap_leftovers(run_dir: Path) -> list[int]:
    """Kill every recorded sandbox that still runs; their pids. Blocks until they have ended."""
    killed = []
    for path in sorted(run_dir.glob("*.pid")):
        pid = _kill_recorded(path.read_text())
        if pid is not None:
            log.warning("Killed a sandbox that an earlier server left behind (pid %d).", pid)
            killed.append(pid)
        path.unlink(missing_ok=True)
    for path in run_dir.glob("*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    return killed


def _living_descendants(root: int) -> list[int]:
    """The processes below ``root`` but zombies: a parent that is stopped never reaps them."""
    table = process_tree.process_table()
    living = {
        pid: fields
        for pid, fields in table.items()
        if fields[process_tree.STATE] not in process_tree.ENDED
    }
    return process_tree.descendants(root, living)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _kill_recorded(line: str) -> int | None:
    fields = line.split()
    if len(fields) != 2 or not fields[0].isdecimal():
        return None  # the server died while it wrote this, and the process with it
    pid = int(fields[0])
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if start_time(pid) != fields[1]:
            return None
        # Where the outer process is a Landlock monitor, its end does not end the others.
        while descendants := _living_descendants(pid):
            for descendant in descendants:
                _kill(descendant)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(WAIT_MS)
    except ProcessLookupError:
        return None
    finally:
        os.close(pidfd)
    return pid
