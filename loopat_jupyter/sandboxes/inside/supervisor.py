"""The server's process inside a sandbox: it starts what the server asks for.

It is pid 1 of the sandbox's pid namespace, or a seccomp filter protects its pid, so that nothing
inside can kill or stop it; it is not dumpable, so nothing inside can trace it. It owns the control
channel, which no process that it starts inherits. When the channel ends (the server has stopped,
or was killed) it ends, and with it everything inside.
"""

# ruff: noqa: S302, SIM105

from __future__ import annotations

import marshal
import os
import select
import time

from loopat_jupyter.sandboxes.inside import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any

    from loopat_jupyter.sandboxes.inside.memory_watch import MemoryWatch
    from loopat_jupyter.sandboxes.inside.spawn import SpawnJob
    from loopat_jupyter.sandboxes.inside.types import Job
else:
    import _signal as signal  # the module around it costs milliseconds


COUNT_INTERVAL = 5.0
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
OOM_SCORE_CHILDREN, OOM_SCORE_SELF = b"1000", b"500"
"""Values of oom_score_adj: when memory runs out the kernel kills what the agent started first."""


def main(control: int, rules: int | None = None) -> None:
    """Serve the channel until it ends. ``rules``: the Landlock rules of each process it starts."""
    supervisor = Supervisor(control, rules, harden_process(control, rules))
    try:
        supervisor.serve()
    finally:
        supervisor.kill_descendants()


def harden_process(control: int, rules: int | None) -> int | None:
    """Close everything inherited but the channel, and forbid tracing this process.

    Returns the open ``oom_score_adj`` of this process, which cannot be opened any more afterwards.
    ``None`` where there are Landlock rules: they do not allow to open it at all.
    """
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.closerange(control + 1, rules or 4096)
    os.closerange((rules or control) + 1, 4096)
    for fd in (2, control, *([rules] if rules else [])):
        os.set_inheritable(fd, False)
    score = None
    if not rules:
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(score, OOM_SCORE_SELF)
    import ctypes
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_DUMPABLE, 0), (PR_SET_CHILD_SUBREAPER, 1)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    return score


def install_filter(program: bytes) -> None:
    """Install a system call filter for this process and all it starts (see ``seccomp.py``)."""
    import ctypes
    import struct

    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, and their address.
    what = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, what, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class Supervisor:
    """One poll loop over the channel, the output of commands, ended children and timers."""

    def __init__(self, control: int, rules: int | None, score: int | None) -> None:
        self.config: dict[str, Any] = {}
        self._rules = rules
        self._oom_score_fd = score
        self._control = control
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._exit_callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self._last_timer = 0
        self._jobs: dict[int, Job] = {}
        self._spawned: dict[int, SpawnJob] = {}
        self._parts: dict[int, bytearray] = {}
        self._memory: MemoryWatch | None = None
        self._counted_at = -COUNT_INTERVAL
        self._connected = True

    # ------------------------------------------------------------------ the loop

    def serve(self) -> None:
        wake, signalled = os.pipe()
        for fd in (wake, signalled):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.watch(wake, lambda: self._reap(wake))
        self.watch(self._control, self._receive_frame)
        while self._connected:
            for fd, _ in self._poll.poll(self._next_timer()):
                if fd in self._callbacks:
                    self._callbacks[fd]()
            self._run_timers()

    def _next_timer(self) -> float | None:
        if not self._timers:
            return None
        first = min(when for when, _ in self._timers.values())
        return max(0.0, (first - time.monotonic()) * 1000 + 0.5)

    def _run_timers(self) -> None:
        now = time.monotonic()
        for timer in [t for t, (when, _) in self._timers.items() if when <= now]:
            entry = self._timers.pop(timer, None)
            if entry:
                entry[1]()

    def _reap(self, wake: int) -> None:
        try:
            os.read(wake, 4096)
        except BlockingIOError:
            pass  # a spurious wake-up; waitpid() is called all the same
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            exited = self._exit_callbacks.pop(pid, None)
            if exited:
                exited(os.waitstatus_to_exitcode(status))

    # ------------------------------------------------------------------ for jobs

    def watch(self, fd: int, ready: Callable[[], None], *, write: bool = False) -> None:
        self._callbacks[fd] = ready
        self._poll.register(fd, select.POLLOUT if write else select.POLLIN)

    def unwatch(self, fd: int) -> None:
        if self._callbacks.pop(fd, None):
            self._poll.unregister(fd)

    def on_exit(self, pid: int, exited: Callable[[int], None]) -> None:
        self._exit_callbacks[pid] = exited

    def call_later(self, seconds: float, call: Callable[[], None]) -> int:
        self._last_timer += 1
        self._timers[self._last_timer] = (time.monotonic() + seconds, call)
        return self._last_timer

    def cancel_timer(self, timer: int) -> None:
        self._timers.pop(timer, None)

    def send_frame(self, kind: bytes, request: int, payload: bytes = b"") -> None:
        try:
            os.write(self._control, protocol.encode_frame(kind, request, payload))
        except (BrokenPipeError, ConnectionResetError):
            self._connected = False

    def send_reply(self, request: int, data: bytes, end: str) -> None:
        """Send a whole reply: the data in frames, then its end."""
        for piece in protocol.split_payload(data):
            self.send_frame(protocol.OUT, request, piece)
        self.send_frame(protocol.END, request, end.encode())

    def forget_job(self, request: int) -> None:
        self._jobs.pop(request, None)
        self._spawned.pop(request, None)

    # ------------------------------------------------------------------ the channel

    def _receive_frame(self) -> None:
        packet = os.read(self._control, protocol.PACKET_MAX)
        if not packet:
            self._connected = False
            return
        kind, request, payload = protocol.decode_frame(packet)
        if kind == protocol.REQUEST_PART:
            self._parts.setdefault(request, bytearray()).extend(payload)
        elif kind == protocol.REQUEST:
            whole = bytes(self._parts.pop(request, b"")) + payload
            self._handle_request(request, marshal.loads(whole))
        elif kind == protocol.KILL:
            if job := self._jobs.get(request):
                job.kill(payload[0])
        elif stream := self._spawned.get(request):
            stream.receive_frame(kind, payload)

    def _handle_request(self, request_id: int, request: dict[str, Any]) -> None:
        if request["op"] == "configure":
            self.config = {**request["config"], "rules": self._rules}
            self._configure_proxy(self.config["proxy"])
            if self.config["filter"] is not None:
                install_filter(self.config["filter"])
            return
        self._set_oom_score(OOM_SCORE_CHILDREN)  # processes that are forked now inherit it
        try:
            self._start_job(request_id, request)
        except OSError as error:
            self._send_error(request_id, error)
        else:
            self._watch_memory()
        finally:
            self._set_oom_score(OOM_SCORE_SELF)

    def _set_oom_score(self, score: bytes) -> None:
        if self._oom_score_fd is not None:
            os.write(self._oom_score_fd, score)

    def _configure_proxy(self, proxy: dict[str, Any] | None) -> None:
        """Set the proxy variables of programs inside; open the proxy's listener where there is no
        port yet, and send it to the server."""
        if proxy is None:
            return
        from loopat_jupyter.sandboxes.inside.proxy_listener import (
            open_listener,
            proxy_environment,
            send_fd,
        )

        port: int | None = proxy["port"]
        if port is None:
            listener, port = open_listener()
            send_fd(self._control, protocol.encode_frame(protocol.LISTENER, 0), listener)
            os.close(listener)
        self.config["env"].update(proxy_environment(port, proxy["credentials"]))

    def _start_job(self, request_id: int, request: dict[str, Any]) -> None:
        if self.config["shared_user"]:
            self._update_other_threads()
        if request["op"] == "run":
            from loopat_jupyter.sandboxes.inside.commands import Command

            command = Command(self, request_id, request)
            if not request["background"]:
                self._jobs[request_id] = command
        elif request["op"] == "file":
            from loopat_jupyter.sandboxes.inside.file_process import FileProcess

            self._jobs[request_id] = FileProcess(self, request_id, request)
        elif request["op"] == "spawn":
            from loopat_jupyter.sandboxes.inside.spawn import SpawnJob

            self._jobs[request_id] = self._spawned[request_id] = SpawnJob(self, request_id, request)
        else:
            raise OSError(0, f"unknown request {request['op']}")

    def _update_other_threads(self) -> None:
        """Count the user's threads outside the sandbox, at most every ``COUNT_INTERVAL`` seconds.

        The kernel counts processes by user, so they are added to the limit of processes.
        """
        if time.monotonic() < self._counted_at + COUNT_INTERVAL:
            return
        from loopat_jupyter.sandboxes.inside.memory_watch import count_other_threads

        self._counted_at = time.monotonic()
        self.config["others"] = count_other_threads(os.getpid())

    def _watch_memory(self) -> None:
        if not self.config["memory_watch"]:
            return
        if self._memory is None:
            from loopat_jupyter.sandboxes.inside.memory_watch import MemoryWatch

            self._memory = MemoryWatch(self, self.config["memory"], self._report_kill)
        self._memory.ensure_running()

    def _report_kill(self, pid: int, text: str) -> None:
        for job in self._jobs.values():
            job.report_kill(pid, text)

    def _send_error(self, request: int, error: OSError) -> None:
        import json

        self.send_reply(request, b"", json.dumps({"error": error.strerror or str(error)}))

    def kill_descendants(self) -> None:
        """Kill every process below this one. Not needed as pid 1, whose end is that of the
        namespace, nor with Landlock rules, where the monitor does it."""
        if os.getpid() == 1 or self._rules:
            return
        from loopat_jupyter.sandboxes.inside.memory_watch import resident_bytes

        while True:
            for pid in resident_bytes(os.getpid()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return
