"""Starts processes inside the sandbox, and runs shell commands with captured output.

Every process gets its own session and process group, the loop's resource limits, a clean
environment, and none of the supervisor's descriptors.
"""

# ruff: noqa: S606

from __future__ import annotations

import fcntl
import os
import resource

from loopat_jupyter.sandboxes.inside.output_capture import OutputCapture

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any

    from loopat_jupyter.sandboxes.inside.types import JobContext
else:
    import _signal as signal  # the module around it costs milliseconds


READ_SIZE = 65_536
DRAIN_MAX = 1 << 20
LANDLOCK_RESTRICT_SELF, PR_SET_DUMPABLE = 446, 4
THROTTLE = 0.01
"""Seconds between two reads from a command whose output is discarded; bounds the processor time
that discarding takes."""


def apply_limits(config: dict[str, Any]) -> None:
    """Set the loop's resource limits for this process and all that it starts."""
    processes = config["processes"]
    if processes is not None:
        processes += config.get("others", 0)
    for name, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_FSIZE, config["file_size"]),
        (resource.RLIMIT_NOFILE, config["open_files"]),
        (resource.RLIMIT_DATA, config["memory"]),
    ):
        if value is None:
            continue
        _, hard = resource.getrlimit(name)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def apply_agent_rules(config: dict[str, Any]) -> None:
    """Restrict this process by the agent's Landlock rules, where the tier has any.

    The monitor reads the memory of processes whose system calls it handles, so this process is made
    dumpable again: it was forked from the supervisor, which is not.
    """
    if config["rules"] is None:
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(LANDLOCK_RESTRICT_SELF, config["rules"], 0):
        raise OSError(ctypes.get_errno(), "landlock")
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def start_process(
    config: dict[str, Any],
    argv: list[str],
    *,
    streams: tuple[int, int, int],
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    terminal: bool = False,
) -> int:
    """Fork and run ``argv``; returns its pid. Raises ``OSError`` when it could not be run."""
    failed, report = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(failed)
        os.close(report)
        raise
    if pid == 0:
        try:
            _exec_child(config, argv, streams, cwd, env, terminal)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            os.write(report, f"{error.errno} {os.strerror(error.errno or 0)}{where}".encode())
        finally:
            os._exit(127)
    os.close(report)
    try:
        message = os.read(failed, 4096)
    finally:
        os.close(failed)
    if message:
        number, _, text = message.decode(errors="replace").partition(" ")
        raise OSError(int(number), text)
    return pid


def _exec_child(
    config: dict[str, Any],
    argv: list[str],
    streams: tuple[int, int, int],
    cwd: str | None,
    env: dict[str, str] | None,
    terminal: bool,
) -> None:
    os.setsid()
    lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in streams]
    for target, fd in enumerate(lifted):
        os.dup2(fd, target)
    if terminal:
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    apply_limits(config)
    apply_agent_rules(config)
    os.chdir(cwd or config["workdir"])
    os.execvpe(argv[0], argv, {**config["env"], **(env or {})})


def kill_group(pid: int, number: int) -> None:
    """Send a signal to a process group. One that has ended already is no error."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


class Command:
    """``bash -c`` with captured output. The reply is sent when bash itself ends, also where
    processes that it started go on; a background command's reply is sent at once."""

    def __init__(self, context: JobContext, request_id: int, request: dict[str, Any]) -> None:
        self._context = context
        self._request_id = request_id
        self._timeout: float = request["timeout"]
        self._background: bool = request["background"]
        self._timed_out = False
        self._replied = False
        self._timer: int | None = None
        config = context.config
        name = f"{os.urandom(4).hex()}-{request_id}.txt"
        self._capture = OutputCapture(
            config["output_dir"], name, config["output"], config["kept_output"]
        )
        self._start(request["command"])

    def _start(self, command: str) -> None:
        if self._background:
            self._capture.spill_to_file()
        self._pipe, writer = os.pipe()
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        try:
            argv = ["bash", "-c", command]
            self._pid = start_process(self._context.config, argv, streams=(null, writer, writer))
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(writer)
            os.close(null)
        os.set_blocking(self._pipe, False)
        self._context.watch(self._pipe, self._on_readable)
        self._context.on_exit(self._pid, self._on_exit)
        if self._background:
            self._send_result(None, pid=self._pid)
        else:
            self._timer = self._context.call_later(self._timeout, self._on_timeout)

    def kill(self, number: int) -> None:
        kill_group(self._pid, number)

    def report_kill(self, pid: int, text: str) -> None:
        """Write into the output why a process was killed, if it is one of this command's."""
        try:
            if pid == self._pid or os.getpgid(pid) == self._pid:
                self._capture.append(f"\n[{text}]\n".encode())
        except ProcessLookupError:
            return

    def _on_timeout(self) -> None:
        self._timer = None
        self._timed_out = True
        self.kill(signal.SIGKILL)

    def _on_readable(self) -> None:
        self._read_output()
        if self._pipe >= 0 and ((self._replied and not self._background) or self._capture.full):
            self._context.unwatch(self._pipe)
            self._context.call_later(THROTTLE, self._resume)

    def _resume(self) -> None:
        if self._pipe >= 0:
            self._context.watch(self._pipe, self._on_readable)

    def _read_output(self) -> int:
        """Read once; the number of bytes, 0 where there is nothing yet or the pipe has ended."""
        if self._pipe < 0:
            return 0
        try:
            data = os.read(self._pipe, DRAIN_MAX if self._capture.full else READ_SIZE)
        except BlockingIOError:
            return 0
        if data:
            self._capture.append(data)
        else:
            self._context.unwatch(self._pipe)
            os.close(self._pipe)
            self._pipe = -1
            if self._replied:
                self._capture.close()
        return len(data)

    def _on_exit(self, code: int) -> None:
        if self._replied:
            return
        if self._timer is not None:
            self._context.cancel_timer(self._timer)
        drained = 0
        while drained < DRAIN_MAX and (count := self._read_output()):
            drained += count
        self._send_result(None if self._timed_out else code)

    def _send_result(self, code: int | None, pid: int | None = None) -> None:
        self._replied = True
        exit_code = "null" if code is None else str(code)
        file = f'"{self._capture.path}"' if self._capture.spilled else "null"
        end = (
            f'{{"exit": {exit_code}, "timed_out": {"true" if self._timed_out else "false"}, '
            f'"file": {file}, "pid": {"null" if pid is None else pid}}}'
        )
        self._context.send_reply(self._request_id, self._capture.text(), end)
        if self._pipe < 0:
            self._capture.close()
        self._context.forget_job(self._request_id)
