"""A sandbox with the supervisor inside, and a tier with a launcher: what tiers have in common.

A tier defines how the outer process is made (:meth:`SupervisedSandbox.prepare`); the channel,
commands, file operations, spawned processes and the end are here. The sandbox is *closed* when its
outer process and its supervisor have both ended. The supervisor is the first process of its pid
namespace, and the kernel lets it end only after all others of the namespace.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from loopat_jupyter.loops.errors import SandboxLost, SandboxSpawnFailed
from loopat_jupyter.loops.ports.network import Network
from loopat_jupyter.loops.ports.sandbox import CommandResult, Process, SandboxIsolation, SandboxSpec
from loopat_jupyter.sandboxes.inside import protocol
from loopat_jupyter.sandboxes.inside.bundle import BUNDLE_FD, CONTROL_FD, bundle_bytes, sealed_file
from loopat_jupyter.sandboxes.launcher.client import Launched, Launcher, LaunchPlan, base_python
from loopat_jupyter.sandboxes.proxy.server import EgressProxyServer
from loopat_jupyter.sandboxes.runtime.channel import Channel, PendingReply, parse_file_reply
from loopat_jupyter.sandboxes.runtime.limits import enforced_controllers, with_cgroups
from loopat_jupyter.sandboxes.runtime.probe import await_end
from loopat_jupyter.sandboxes.runtime.proxy_setup import make_proxy, open_on_host, proxy_config
from loopat_jupyter.sandboxes.runtime.reaper import forget_sandbox, record_sandbox
from loopat_jupyter.sandboxes.runtime.sandbox_cgroup import SandboxCgroup
from loopat_jupyter.sandboxes.runtime.settings import KIB, MIB, SandboxSettings
from loopat_jupyter.sandboxes.runtime.spawned_process import StreamedProcess

START_TIMEOUT = 20.0
REPLY_GRACE = 10.0
"""Seconds that the supervisor may take beyond the time limit that it enforces itself."""
START_GRACE = 5.0
OUTER_GRACE = 1.0
"""Seconds that bwrap may take to end when its supervisor has ended."""
KILL_GRACE = 3.0
FILE_REPLY_MAX = 4 * MIB
SHORT_OF_RESOURCES = (
    "The server could not start a sandbox ({why}). It may be short of memory, processes or open "
    "files: free some, and send the message again."
)

log = logging.getLogger(__name__)


class SupervisedSandbox:
    """One loop's sandbox; see :class:`loopat_jupyter.loops.ports.sandbox.Sandbox`."""

    def __init__(
        self,
        spec: SandboxSpec,
        settings: SandboxSettings,
        launcher: Launcher | None,
        isolation: SandboxIsolation,
    ) -> None:
        self._spec = spec
        self._settings = settings
        self._launcher = launcher
        self._isolation = isolation
        self._channel: Channel | None = None
        self._proxy: EgressProxyServer | None = None
        self._pids: list[int] = []
        self._launching = False
        self._supervised = False
        self._stderr_text = ""
        self._stderr: int | None = None
        self.proxy_port: int | None = None
        self._lost: SandboxLost | None = None
        self._closing = False
        self._closed = asyncio.Event()
        self._cgroup = SandboxCgroup(settings, spec.loop_id)

    # ------------------------------------------------------------------ for tiers

    workdir: str
    home: str
    own_network = True
    """Whether it has a network namespace; else the egress proxy listens on the host's loopback."""
    proxied = True
    """Whether the proxy variables of programs inside name the egress proxy."""

    def prepare(self, plan: LaunchPlan, supervisor: list[str | tuple[str, int]]) -> None:
        """Complete ``plan`` so that it runs the argv ``supervisor`` inside. Runs in a thread."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The environment of all processes that the supervisor starts."""
        raise NotImplementedError

    def outside_uid(self) -> int:
        """The uid on the host of the processes inside, where they share the host's network."""
        return os.geteuid()

    def bundle(self) -> bytes:
        """What the Python inside runs; see :mod:`loopat_jupyter.sandboxes.inside.bundle`."""
        return bundle_bytes()

    def launch_outer(self, plan: LaunchPlan) -> Launched:
        """Start the outer process. Runs in a thread; ``plan`` owns descriptors that stay open."""
        assert self._launcher is not None
        self.prepare(plan, [base_python(), "-I", "-S", "-B", f"/proc/self/fd/{BUNDLE_FD}"])
        launched = self._launcher.launch(plan)
        record_sandbox(self._settings.run_dir, self._spec.loop_id, launched.pid)
        return launched

    def end_processes(self) -> None:
        """Make the outer process and the supervisor end; called again when one of them has ended.

        The supervisor is killed first: the outer process then reaps it and ends by itself. A
        supervisor that has not started yet finds its channel closed when it does; to kill the outer
        process before that would leave bwrap's first child waiting for it for ever.
        """
        if len(self._pids) == 2:
            self.send_signal(self._pids[1], signal.SIGKILL)
        else:
            grace = OUTER_GRACE if self._supervised else START_GRACE
            asyncio.get_running_loop().call_later(grace, self.signal_all, signal.SIGKILL)

    # ------------------------------------------------------------------ life

    @property
    def isolation(self) -> SandboxIsolation:
        return self._isolation

    @property
    def network(self) -> Network:
        if self._proxy is None:
            raise SandboxLost("The sandbox has not been started.")
        return self._proxy

    @property
    def alive(self) -> bool:
        return self._channel is not None and self._lost is None

    async def start(self) -> None:
        if self._channel is not None:
            raise SandboxSpawnFailed("This sandbox was started before.")
        try:
            supervisor_end = self._open_channel()
        except OSError as error:
            await self._abandon_start()
            raise SandboxSpawnFailed(SHORT_OF_RESOURCES.format(why=error.strerror)) from error
        assert self._channel is not None
        self._channel.request(None, op="configure", config=self.configuration())
        self._launching = True
        starting = asyncio.ensure_future(asyncio.to_thread(self._launch, supervisor_end))
        starting.add_done_callback(self._on_launched)
        try:
            await asyncio.shield(starting)
            async with asyncio.timeout(START_TIMEOUT):
                pid = await self._channel.ready
            self._follow_supervisor(pid)
        except BaseException as error:
            if not starting.done():
                await asyncio.wait([starting])
            await self.stop()
            if isinstance(error, TimeoutError | SandboxLost):
                raise SandboxSpawnFailed(self._start_error()) from error
            if isinstance(error, OSError):
                raise SandboxSpawnFailed(SHORT_OF_RESOURCES.format(why=error.strerror)) from error
            raise

    def _open_channel(self) -> socket.socket:
        """Make the egress proxy and the channel; the supervisor's end. Raises ``OSError``."""
        shared = not self.own_network
        proxy = self._proxy = make_proxy(self._spec, self._settings, shared=shared)
        if shared:
            self.proxy_port = open_on_host(proxy, self.outside_uid())
        server_end, supervisor_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = Channel(server_end, self._mark_lost, None if shared else proxy.start)
        return supervisor_end

    async def _abandon_start(self) -> None:
        """Close a sandbox of which nothing was made but perhaps the egress proxy."""
        self._lost = SandboxLost("The sandbox is gone: it was never made.")
        self._closing = True
        self._closed.set()
        if self._proxy is not None:
            await self._proxy.close()

    def _launch(self, supervisor_end: socket.socket) -> Launched:
        plan = LaunchPlan(uid=None)
        try:
            with supervisor_end:
                control = plan.add_fd(os.dup(supervisor_end.fileno()))
            bundle = plan.add_fd(sealed_file("loopat-supervisor", self.bundle()))
            self._stderr = os.memfd_create("loopat-stderr")
            plan.stderr = plan.add_fd(os.dup(self._stderr))
            plan.fixed = [(CONTROL_FD, control), (BUNDLE_FD, bundle)]
            self._cgroup.create(plan)
            return self.launch_outer(plan)
        finally:
            plan.close()

    def _on_launched(self, starting: asyncio.Future[Launched]) -> None:
        """The outer process was started, or could not be."""
        self._launching = False
        if not starting.cancelled() and starting.exception() is None:
            self._watch_pidfd(starting.result().pidfd)
        if self._lost is not None:
            self._mark_lost("it ended")

    def _watch_pidfd(self, pidfd: int) -> None:
        self._pids.append(pidfd)
        asyncio.get_running_loop().add_reader(pidfd, self._on_exit, pidfd)

    def _follow_supervisor(self, pid: int) -> None:
        """Watch the supervisor too, which is the last process of its namespace to end."""
        assert self._stderr is not None
        if text := os.pread(self._stderr, 2000, 0):
            log.warning("%s: %s", self._spec.loop_id, text.decode(errors="replace").strip())
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._mark_lost("it ended")
            raise SandboxSpawnFailed(self._start_error()) from None
        self._supervised = True
        self._watch_pidfd(pidfd)

    def _start_error(self) -> str:
        reason = self._stderr_text.splitlines()[-1] if self._stderr_text else "no reason given"
        return f"The sandbox did not start: {reason}"

    def _on_exit(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        self._pids.remove(pidfd)
        self._mark_lost("it ended")

    def _mark_lost(self, why: str) -> None:
        """End the sandbox for the reason ``why``; pending requests fail at once."""
        if self._lost is None:
            self._lost = SandboxLost(f"The sandbox is gone: {why}.")
            if self._channel is not None:
                self._channel.fail(self._lost)
                self._channel.close()
            if self._proxy is not None:
                self._proxy.stop_listening()
        if self._pids:
            self.end_processes()
        elif not self._launching and not self._closing:
            self._closing = True
            self.close()

    def close(self) -> None:
        """All processes have ended: release what is left, and wake those who wait for the end."""
        forget_sandbox(self._settings.run_dir, self._spec.loop_id)
        if self._stderr is not None:
            self._stderr_text = os.pread(self._stderr, 4000, 0).decode(errors="replace").strip()
            os.close(self._stderr)
            self._stderr = None
        self._finalize()

    def _finalize(self) -> None:
        """Remove the cgroup, and set ``_closed``."""
        self._cgroup.destroy(self._closed.set)

    def signal_all(self, number: int) -> None:
        """Send a signal to the outer process and the supervisor."""
        for pidfd in self._pids:
            self.send_signal(pidfd, number)

    def send_signal(self, pidfd: int, number: int) -> None:
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return  # the pidfd becomes readable

    async def stop(self) -> None:
        self._mark_lost("it was stopped")
        await self._closed.wait()
        if self._proxy is not None:
            await self._proxy.close()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    # ------------------------------------------------------------------ work

    def configuration(self) -> dict[str, Any]:
        """The configuration that the supervisor gets as its first request."""
        limits = self._settings.limits
        return {
            "processes": limits.processes,
            "shared_user": False,
            "memory": limits.memory,
            "file_size": limits.file_size,
            "open_files": limits.open_files,
            "output": limits.output,
            "kept_output": limits.kept_output,
            "file_timeout": limits.file_timeout,
            "memory_watch": "memory" not in enforced_controllers(self._settings),
            "filter": None,
            "workdir": self.workdir,
            "home": self.home,
            "output_dir": f"{self.home}/.loopat/output",
            "env": self.environment(),
            "proxy": proxy_config(self._proxy, self.proxy_port) if self.proxied else None,
        }

    def _require_alive(self) -> Channel:
        if self._channel is None:
            raise SandboxLost("The sandbox has not been started.")
        if self._lost is not None:
            raise self._lost
        return self._channel

    async def run(self, command: str, *, timeout: float, background: bool = False) -> CommandResult:
        if "\0" in command:
            return CommandResult(126, "A command cannot contain a NUL character.")
        text = command.encode(errors="surrogateescape").decode(errors="replace")
        kills = self._cgroup.oom_kills()
        output, end = await self._request_reply(
            self._settings.limits.output + 4 * KIB,
            timeout,
            {"op": "run", "command": text, "timeout": timeout, "background": background},
        )
        if "error" in end:
            return CommandResult(126, f"The command could not be started: {end['error']}.")
        return CommandResult(
            exit_code=_integer(end.get("exit")),
            output=output.decode(errors="replace") + self._cgroup.oom_note(kills),
            timed_out=end.get("timed_out") is True,
            output_file=str(end["file"]) if end.get("file") else None,
            background_pid=_integer(end.get("pid")),
        )

    async def file(self, op: str, /, **args: Any) -> dict[str, Any]:
        timeout = self._settings.limits.file_timeout
        request = {"op": "file", "file_op": op, "args": args}
        data, end = await self._request_reply(FILE_REPLY_MAX, timeout, request)
        return parse_file_reply(data, end)

    async def _request_reply(
        self, limit: int, timeout: float, request: dict[str, Any]
    ) -> tuple[bytes, dict[str, Any]]:
        """Send one request and wait for its reply; killed inside when this is cancelled."""
        channel = self._require_alive()
        reply = PendingReply(limit)
        number = channel.request(reply, **request)
        try:
            async with asyncio.timeout(timeout + REPLY_GRACE):
                return await asyncio.shield(reply.done)
        except TimeoutError:
            self._mark_lost("its supervisor does not answer")
            raise self._lost_error() from None
        except asyncio.CancelledError:
            channel.send_frame(protocol.KILL, number, bytes([signal.SIGKILL]))
            await asyncio.wait([reply.done], timeout=KILL_GRACE)
            if not reply.done.done():
                self._mark_lost("its supervisor does not answer")
            raise

    def _lost_error(self) -> SandboxLost:
        return self._lost or SandboxLost("The sandbox is gone.")

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        pty: tuple[int, int] | None = None,
    ) -> Process:
        channel = self._require_alive()
        process = StreamedProcess()
        request = channel.request(
            process,
            op="spawn",
            argv=list(argv),
            cwd=cwd,
            env=dict(env) if env is not None else None,
            pty=pty,
        )
        process.attach(lambda kind, payload: channel.send_frame(kind, request, payload))
        try:
            async with asyncio.timeout(REPLY_GRACE):
                await asyncio.shield(process.started)
        except TimeoutError:
            self._mark_lost("its supervisor does not answer")
            raise self._lost_error() from None
        except asyncio.CancelledError:
            channel.send_frame(protocol.KILL, request, bytes([signal.SIGKILL]))
            raise
        return process


class LauncherTier:
    """What those tiers have in common whose sandboxes a launcher starts, and that keep nothing of a
    sandbox; see :class:`loopat_jupyter.loops.ports.sandbox.SandboxTier`."""

    def __init__(
        self, settings: SandboxSettings, launcher: Launcher, isolation: SandboxIsolation
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._isolation = with_cgroups(isolation, enforced_controllers(settings))

    @property
    def isolation(self) -> SandboxIsolation:
        return self._isolation

    def probe_output(self, sandbox: SupervisedSandbox, argv: list[str | tuple[str, int]]) -> str:
        """Run ``argv`` in a sandbox in the supervisor's place; what it wrote to stderr. Blocks."""
        plan = LaunchPlan()
        stderr = os.memfd_create("loopat-probe")
        try:
            plan.stderr = plan.add_fd(os.dup(stderr))
            sandbox.prepare(plan, argv)
            await_end(self._launcher.launch(plan).pidfd)
            return os.pread(stderr, 4000, 0).decode(errors="replace").strip()
        finally:
            plan.close()
            os.close(stderr)

    async def retained(self) -> Sequence[str]:
        return ()

    async def remove(self, loop_id: str) -> None:
        """Nothing of a loop's sandbox is kept."""

    def close(self) -> None:
        """End the launcher, and every sandbox that still runs."""
        self._launcher.close()


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
