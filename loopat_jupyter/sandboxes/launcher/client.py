"""The server's side of the launcher process: start it once, hand it sandboxes to start.

Everything here blocks for a few milliseconds and is called from worker threads. One launcher
serves all sandboxes of a tier; when it dies they die with it, and the next start makes a new one.
"""

from __future__ import annotations

import marshal
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.sandboxes.launcher import process as program

REPLY_TIMEOUT = 20.0
END_TIMEOUT = 5.0
TOO_MANY_FILES = (
    "The server could not follow the sandbox it had started (too many open files): close "
    "notebooks or loops, and send the message again."
)


def base_python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


@dataclass(slots=True)
class LaunchPlan:
    """What is to be started. Owns its descriptors until :meth:`close`.

    ``argv`` holds strings, and ``(format, index)`` for the number of a descriptor in the child.
    ``stage`` names the descriptors that a root server's launcher binds below its stage, and says
    whether root's files there are to be the sandbox user's own. ``reach`` does the same for paths
    that the sandbox's user must find where they are. ``restrictions`` is what
    :mod:`loopat_jupyter.sandboxes.landlock.monitor` needs; with it the sandbox gets a guard.
    """

    argv: list[str | tuple[str, int]] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    fixed: list[tuple[int, int]] = field(default_factory=list)
    stage: list[tuple[int, str, bool]] = field(default_factory=list)
    reach: list[tuple[int, str, bool]] = field(default_factory=list)
    restrictions: dict[str, Any] | None = None
    env: dict[str, str] = field(default_factory=dict)
    uid: int | None = None
    stderr: int = 0
    cgroup: int | None = None
    """The open ``cgroup.procs`` of the sandbox's own cgroup, which the child enters first."""

    def add_fd(self, fd: int) -> int:
        """Take over a descriptor; its index."""
        self.fds.append(fd)
        return len(self.fds) - 1

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


@dataclass(frozen=True, slots=True)
class Launched:
    """A started sandbox's outer process."""

    pid: int
    pidfd: int


class Launcher:
    """A launcher process and the lock around its channel.

    ``sole``: whatever falls to the launcher without having been started by it is what a killed
    sandbox left behind, and is killed.
    """

    def __init__(self, *, kills_orphans: bool = False) -> None:
        self._kills_orphans = kills_orphans
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def launch(self, plan: LaunchPlan) -> Launched:
        """Start it. Raises ``SandboxSpawnFailed``."""
        request = marshal.dumps(
            {
                name: getattr(plan, name)
                for name in (
                    *("argv", "fixed", "stage", "reach", "restrictions"),
                    *("env", "uid", "stderr", "cgroup"),
                )
            }
        )
        with self._lock:
            try:
                packet, fds = self._send_request(request, plan.fds)
            except ConnectionError:  # it died; whatever it had begun died with it
                self._stop()
                packet, fds = self._send_request(request, plan.fds)
            except OSError as error:
                self._stop()
                raise SandboxSpawnFailed("The sandbox launcher does not answer.") from error
        answer = marshal.loads(packet)  # noqa: S302 - the launcher is our own process
        if "error" in answer:
            raise SandboxSpawnFailed(f"The sandbox could not be started: {answer['error']}.")
        if not fds:  # no room for it here; what was started ends when it finds its channel closed
            raise SandboxSpawnFailed(TOO_MANY_FILES)
        return Launched(answer["pid"], fds[0])

    def kill_orphans(self) -> None:
        """Wait until nothing is left of sandboxes whose outer process was killed; see ``sole``."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return  # whatever it had begun ended with it
            try:
                self._send_request(marshal.dumps({"kill_orphans": True}), [])
            except OSError:
                self._stop()

    def _send_request(self, request: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        """One request and its answer; ``ConnectionError`` when there is no launcher any more."""
        channel = self._ensure_running()
        try:
            socket.send_fds(channel, [request], fds)
        except (ConnectionError, TimeoutError):
            raise
        except OSError as error:
            # The kernel refused the message (too many descriptors in flight, say). The launcher
            # never saw it: it lives, and so do the sandboxes it started.
            raise SandboxSpawnFailed(
                f"The server could not ask for a sandbox ({error.strerror}). Other loops may hold "
                "what it needs: end some of their processes, and send the message again."
            ) from error
        packet, answered, _, _ = socket.recv_fds(channel, 65_536, 1)
        if not packet:
            raise ConnectionResetError
        return packet, answered

    def _ensure_running(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._channel is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.settimeout(REPLY_TIMEOUT)
            with theirs:
                option = ["kill-orphans"] if self._kills_orphans else []
                script = str(Path(program.__file__))
                self._process = subprocess.Popen(  # noqa: S603
                    [base_python(), "-I", "-S", script, str(theirs.fileno()), *option],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                    cwd="/",
                    start_new_session=True,
                )
            self._channel = ours
        return self._channel

    def close(self) -> None:
        """End the launcher, and with it every sandbox it started."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
