"""Runs the podman command, bounded in time and in output, with a clean environment.

Calls block and belong in a thread; a build, which can take minutes, is in :mod:`.image` and does
not block. podman is started directly and not by the launcher: conmon, which it leaves running and
which cleans up when a container ends, must outlive a killed server for a moment.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.sandboxes.runtime.environment import SYSTEM_PATH

CALL_TIMEOUT = 60.0
OUTPUT_MAX = 256 * 1024
FIRST_FREE = 10
"""Descriptors are first duplicated to numbers from here on, so that dup2() to their final numbers
overwrites none of them."""
PASSED_ENVIRONMENT = (
    *("HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF"),
    *("REGISTRY_AUTH_FILE", "DBUS_SESSION_BUS_ADDRESS", "TMPDIR", "STORAGE_DRIVER"),
)
"""Variables of the server's environment that tell podman where its configuration and its storage
are. No container gets them."""
BUILD_ENVIRONMENT = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
IN_PROC = ("/bin/sh", "-c", 'cd /proc && exec "$0" "$@"')
"""Runs a program in a directory where no file can be made: conmon writes a file ``oom`` into its
working directory when a container has used up its memory."""


class PodmanFailed(SandboxSpawnFailed):
    """podman failed; the message is the last line of its output."""


def find_podman() -> Path | None:
    found = shutil.which("podman", path=os.environ.get("PATH", SYSTEM_PATH))
    return Path(found) if found else None


def podman_environment(*more: str) -> dict[str, str]:
    """podman's environment: a fixed ``PATH``, and these variables of the server's, where set."""
    kept = {name: os.environ[name] for name in (*PASSED_ENVIRONMENT, *more) if name in os.environ}
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", **kept}


@dataclass(frozen=True, slots=True)
class Podman:
    """The program, and the OCI runtime that it is to use (empty: its own choice)."""

    program: Path
    runtime: str = ""

    def argv(self, *arguments: str) -> list[str]:
        options = ["--runtime", self.runtime] if self.runtime else []
        return [str(self.program), *options, *arguments]

    def call(
        self,
        *arguments: str,
        timeout: float = CALL_TIMEOUT,
        pass_fds: Sequence[int] = (),
    ) -> str:
        """Run podman with these arguments; its stdout. Blocks for at most ``timeout`` seconds.

        ``pass_fds`` are descriptors for a container that is started, which has them as 3 and up.

        Raises:
            PodmanFailed: it ended with an error, or took too long.
        """
        with ExitStack() as opened:
            out, err = (
                _close_with(opened, os.memfd_create(name, os.MFD_CLOEXEC))
                for name in ("out", "err")
            )
            code = self._run(arguments, (out, err), pass_fds, timeout)
            stderr = os.pread(err, OUTPUT_MAX, 0).decode(errors="replace")
            if code:
                raise PodmanFailed(last_line(stderr) or f"podman ended with status {code}")
            return os.pread(out, OUTPUT_MAX, 0).decode(errors="replace")

    def _run(
        self,
        arguments: Sequence[str],
        output: tuple[int, int],
        pass_fds: Sequence[int],
        time: float,
    ) -> int:
        env = podman_environment()
        if pass_fds:
            env["LISTEN_FDS"] = str(len(pass_fds))
        with ExitStack() as opened:
            lifted = [
                _close_with(opened, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE))
                for fd in (*output, *pass_fds)
            ]
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(lifted, 1)]
            null = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
            argv = [*IN_PROC, *self.argv(*arguments)]
            try:
                pid = os.posix_spawn(
                    argv[0], argv, env, file_actions=[null, *actions], setsid=True, setsigmask=()
                )
            except OSError as error:
                raise PodmanFailed(f"podman cannot be run: {error.strerror}") from error
        return self._wait(pid, time)

    def _wait(self, pid: int, timeout: float) -> int:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:  # without a descriptor it cannot be waited for with a time limit
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            in_time = bool(poll.poll(timeout * 1000))
            if not in_time:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        finally:
            os.close(pidfd)
        if not in_time:
            raise PodmanFailed(f"podman did not answer within {timeout:.0f} seconds")
        return os.waitstatus_to_exitcode(status)


def _close_with(opened: ExitStack, fd: int) -> int:
    """The descriptor, which is closed when the stack is."""
    opened.callback(os.close, fd)
    return fd


def last_line(output: str) -> str:
    """The last line of output that is no warning, without podman's prefix;."""
    lines = [line for line in output.splitlines() if line.strip() and "level=warning" not in line]
    if not lines:
        return ""
    line = lines[-1].strip().removeprefix("Error: ")
    return line[:500]
