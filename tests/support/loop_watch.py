"""Watches an event loop from a thread beside it: what held it up, for how long, and who did.

Used as an extension of a test's Jupyter server (``jpserver_extensions``), where it writes a line
of JSON for each block into the file that the environment variable ``LOOPAT_TEST_WATCH`` names; or
on any loop with :class:`LoopWatch`.

A machine that is busy holds loops up as well. So a block is *blamed* on the code below ``ours``
only while that code is on the stack, and only for the time in which the loop could not have gone
on: the processor time its thread used, and the time it was asleep in a system call that waits (a
disk, a socket, a sleep) or for a lock while nobody else of the process was at work.

What it cannot name: a thread that keeps the interpreter's lock (a long call into C) stops this one
as well. Such a standstill is written down without a stack.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "LOOPAT_TEST_WATCH"
BEAT = 0.02
"""Seconds between two looks."""
NOTICED = 0.1
"""Seconds of standstill that are written down."""


TASKS = Path("/proc/self/task")
FUTEX = {"202", "98"}
"""The number of the system call that waits for locks, on x86-64 and on aarch64."""


@dataclass(frozen=True)
class Block:
    """One standstill of the loop. Times in seconds."""

    lasted: float
    blamed: float
    """Of it, what is the fault of ``ours``: see the module's docstring."""
    where: str
    """What was seen most often, the innermost frames of ``ours`` first; ``-`` if nothing was."""


class LoopWatch(threading.Thread):
    """Watches ``loop`` (running in the thread that makes this) until :meth:`stop`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ours: Path, report: Callable[[Block], None]
    ) -> None:
        super().__init__(name="loop-watch", daemon=True)
        self._loop = loop
        self._ours = str(ours)
        self._report = report
        self._watched = threading.get_ident()
        self._task = str(threading.get_native_id())
        self._clock = time.pthread_getcpuclockid(self._watched)
        self._beaten = threading.Event()
        self._ended = threading.Event()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        try:
            self._watch()
        except Exception:  # a watcher that sees nothing would be a test that always passes
            self._report(Block(math.inf, math.inf, traceback.format_exc()))
            raise

    def _watch(self) -> None:
        while not self._ended.wait(BEAT):
            self._beaten.clear()
            try:
                self._loop.call_soon_threadsafe(self._beaten.set)
            except RuntimeError:  # the loop was closed
                return
            began = time.monotonic()
            if not self._beaten.wait(NOTICED / 2):
                self._look(began)
            elif time.monotonic() - began >= NOTICED:  # nobody could look
                self._report(Block(time.monotonic() - began, 0.0, "-"))

    def _look(self, began: float) -> None:
        stacks: Counter[tuple[bool, str]] = Counter()
        blamed, then, worked = 0.0, time.monotonic(), time.clock_gettime(self._clock)
        while not self._beaten.wait(BEAT) and not self._ended.is_set():
            is_ours, stack = self._stack()
            asleep = self._is_asleep()
            now, works = time.monotonic(), time.clock_gettime(self._clock)
            if is_ours:
                blamed += now - then if asleep else works - worked
            then, worked = now, works
            stacks[is_ours, stack] += 1
        lasted = time.monotonic() - began
        if lasted >= NOTICED:
            self._report(Block(lasted, blamed, self._most_seen(stacks)))

    def _is_asleep(self) -> bool:
        """Whether the loop's thread sleeps, and not for the interpreter's lock."""
        states: dict[str, str] = {}
        for task in TASKS.iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                states[task.name] = (task / "stat").read_text().rpartition(")")[2].split()[0]
        states.pop(str(self.native_id))
        if states.pop(self._task) not in "SD":
            return False
        call = (TASKS / self._task / "syscall").read_text().split()[0]
        # Any lock is waited for in the same call. With nobody at work it is not the interpreter's.
        return call not in FUTEX or "R" not in states.values()

    @staticmethod
    def _most_seen(stacks: Counter[tuple[bool, str]]) -> str:
        ours = Counter({stack: n for (is_ours, stack), n in stacks.items() if is_ours})
        every = Counter({stack: n for (_, stack), n in stacks.items()})
        found = (ours or every).most_common(1)
        return found[0][0] if found else "-"

    def _stack(self) -> tuple[bool, str]:
        """Whether ours is on the loop's stack, and what is shown of it."""
        frame = sys._current_frames().get(self._watched)
        if frame is None:
            return False, "-"
        lines = traceback.extract_stack(frame)
        ours = [line for line in lines if line.filename.startswith(self._ours)]
        shown = [*ours[-4:], *lines[-3:]]
        text = [f"{Path(line.filename).name}:{line.lineno} {line.name}" for line in shown]
        return bool(ours), " > ".join(dict.fromkeys(text))


def _load_jupyter_server_extension(app: Any) -> None:
    import loopat_jupyter

    report = Path(os.environ[VARIABLE])

    def write(block: Block) -> None:
        with report.open("a") as lines:
            lines.write(json.dumps(asdict(block)) + "\n")

    def begin() -> None:
        LoopWatch(asyncio.get_running_loop(), Path(loopat_jupyter.__file__).parent, write).start()

    app.io_loop.add_callback(begin)  # in the loop's own thread, once the server runs
