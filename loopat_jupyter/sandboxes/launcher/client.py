"""The server's client of the launcher process: starts it, and sends it sandboxes to start.

Every call blocks for a few milliseconds and belongs in a worker thread. One launcher serves all
sandboxes of a tier; when it dies they die with it, and the next start makes a new one.
"""

from __future__ import annotations

import marshal
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field, fields
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
    """The path of the interpreter itself, not of a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


@dataclass(slots=True)
class LaunchPlan:
    """What is to be started, and its descriptors, which it owns until :meth:`close`.

    Descriptors are given as indexes into ``fds``. ``argv`` holds strings, and ``(format, index)``
    for the number of a descriptor in the child. ``fixed`` holds ``(number, index)`` for descriptors
    that must have a certain number there. ``stage`` holds ``(index, name, mapped)`` for what a root
    server's launcher bind-mounts below ``process.STAGE``; with ``mapped`` through an idmapped
    mount, so that root's files belong to the sandbox's user. ``reach`` does the same for paths that
    the sandbox's user must find where they are. ``restrictions`` is passed to
    :mod:`loopat_jupyter.sandboxes.landlock.monitor`; with it the sandbox gets a monitor.
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
    """The open ``cgroup.procs`` of the sandbox's own cgroup, to which the child adds itself before
    anything else."""

    def add_fd(self, fd: int) -> int:
        """Take over a descriptor; returns its index."""
        self.fds.append(fd)
        return len(self.fds) - 1

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


@dataclass(frozen=True, slots=True)
class Launched:
    """The outer process of a started sandbox. The caller owns the pidfd."""

    pid: int
    pidfd: int


class Launcher:
    """A launcher process, and the lock around its channel.

    ``kills_orphans``: processes that are reparented to the launcher without having been started by
    it were left by a sandbox whose outer process was killed, and the launcher kills them.
    """

    def __init__(self, *, kills_orphans: bool = False) -> None:
        self._kills_orphans = kills_orphans
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def launch(self, plan: LaunchPlan) -> Launched:
        """Start a sandbox's outer process. Raises ``SandboxSpawnFailed``."""
        names = (f.name for f in fields(plan) if f.name != "fds")  # those go beside the packet
        request = marshal.dumps({name: getattr(plan, name) for name in names})
        with self._lock:
            try:
                packet, fds = self._send_request(request, plan.fds)
            except ConnectionError:  # it died, and whatever it had started died with it
                self._stop()
                packet, fds = self._send_request(request, plan.fds)
            except OSError as error:
                self._stop()
                raise SandboxSpawnFailed("The sandbox launcher does not answer.") from error
        reply = marshal.loads(packet)  # noqa: S302 - the launcher is the server's own process
        if "error" in reply:
            raise SandboxSpawnFailed(f"The sandbox could not be started: {reply['error']}.")
        if not fds:  # too many open files here; the sandbox ends when it finds its channel closed
            raise SandboxSpawnFailed(TOO_MANY_FILES)
        return Launched(reply["pid"], fds[0])

    def kill_orphans(self) -> None:
        """Wait until nothing is left of sandboxes whose outer process was killed. Does nothing
        without ``kills_orphans``."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return  # whatever it had started ended with it
            try:
                self._send_request(marshal.dumps({"kill_orphans": True}), [])
            except OSError:
                self._stop()

    def _send_request(self, request: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        """Send one request; the reply and its descriptors. Raises ``ConnectionError`` when the
        launcher has died."""
        channel = self._ensure_running()
        try:
            socket.send_fds(channel, [request], fds)
        except (ConnectionError, TimeoutError):
            raise
        except OSError as error:
            # The kernel refused the message (too many descriptors in flight, say). The launcher
            # has not received it: it lives, and so do the sandboxes that it started.
            raise SandboxSpawnFailed(
                f"The server could not ask for a sandbox ({error.strerror}). Other loops may hold "
                "what it needs: end some of their processes, and send the message again."
            ) from error
        packet, reply_fds, _, _ = socket.recv_fds(channel, 65_536, 1)
        if not packet:
            raise ConnectionResetError
        return packet, reply_fds

    def _ensure_running(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._channel is None:
            server_end, launcher_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            server_end.settimeout(REPLY_TIMEOUT)
            with launcher_end:
                option = ["kill-orphans"] if self._kills_orphans else []
                script = str(Path(program.__file__))
                self._process = subprocess.Popen(  # noqa: S603
                    [base_python(), "-I", "-S", script, str(launcher_end.fileno()), *option],
                    pass_fds=[launcher_end.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                    cwd="/",
                    start_new_session=True,
                )
            self._channel = server_end
        return self._channel

    def close(self) -> None:
        """End the launcher, and with it every sandbox that it started."""
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
