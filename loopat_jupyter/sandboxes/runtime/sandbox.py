"""A sandbox that has our supervisor inside: what all tiers have in common.

A tier says how the outer process is made (:meth:`SupervisedSandbox.prepare`); everything after
that is here: the channel, commands, file operations, and the end. The sandbox is *closed* when
its outer process and its supervisor are both gone; the supervisor is the first process of its
pid namespace, and the kernel lets it go only after everything else inside.
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
from loopat_jupyter.sandboxes.runtime.channel import Channel, Request
from loopat_jupyter.sandboxes.runtime.limits import enforced_controllers
from loopat_jupyter.sandboxes.runtime.proxy_setup import make_proxy, open_on_host, proxy_config
from loopat_jupyter.sandboxes.runtime.reaper import forget, record
from loopat_jupyter.sandboxes.runtime.replies import parse_file_reply
from loopat_jupyter.sandboxes.runtime.sandbox_cgroup import SandboxCgroup
from loopat_jupyter.sandboxes.runtime.settings import KIB, MIB, SandboxSettings
from loopat_jupyter.sandboxes.runtime.spawned_process import StreamedProcess

START_TIMEOUT = 20.0
GRACE = 10.0
"""How long the supervisor may be silent after a time limit of its own has passed."""
BIRTH_GRACE = 5.0
OUTER_GRACE = 1.0
"""How long bwrap may take to end when its supervisor has."""
KILL_GRACE = 3.0
FILE_ANSWER_MAX = 4 * MIB
SHORT = (
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
        self._broker: EgressProxyServer | None = None
        self._pids: list[int] = []
        self._launching = False
        self._supervised = False
        self._said = ""
        self._stderr: int | None = None
        self.door_port: int | None = None
        self._lost: SandboxLost | None = None
        self._closing = False
        self._closed = asyncio.Event()
        self._membership = SandboxCgroup(settings, spec.loop_id)

    # ------------------------------------------------------------------ for tiers

    workdir: str
    home: str
    own_network = True
    """Whether the sandbox has a network namespace; else the broker's door is on the host's."""
    proxied = True
    """Whether programs inside are told to use the broker."""

    def prepare(self, plan: LaunchPlan, supervisor: list[str | tuple[str, int]]) -> None:
        """Complete ``plan`` so that it runs ``supervisor`` in the sandbox. Runs in a thread."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The environment of everything that runs inside."""
        raise NotImplementedError

    def outside_uid(self) -> int:
        """The user on the host whose processes run inside, where it shares the host's network."""
        return os.geteuid()

    def bundle(self) -> bytes:
        """What the Python inside is given to run."""
        return bundle_bytes()

    def begin(self, plan: LaunchPlan) -> Launched:
        """Make the outer process. Runs in a thread; what it leaves open belongs to ``plan``."""
        assert self._launcher is not None
        self.prepare(plan, [base_python(), "-I", "-S", "-B", f"/proc/self/fd/{BUNDLE_FD}"])
        launched = self._launcher.launch(plan)
        record(self._settings.run_dir, self._spec.loop_id, launched.pid)
        return launched

    def end_processes(self) -> None:
        """Make everything end; called again when one of the two has ended.

        The supervisor first: the outer process then reaps it and ends by itself. One that has
        not come up yet finds its channel ended when it does; to kill the outer process before
        would leave bwrap's first child waiting for it for ever.
        """
        if len(self._pids) == 2:
            self.send(self._pids[1], signal.SIGKILL)
        else:
            grace = OUTER_GRACE if self._supervised else BIRTH_GRACE
            asyncio.get_running_loop().call_later(grace, self.send_all, signal.SIGKILL)

    # ------------------------------------------------------------------ life

    @property
    def isolation(self) -> SandboxIsolation:
        return self._isolation

    @property
    def network(self) -> Network:
        if self._broker is None:
            raise SandboxLost("The sandbox has not been started.")
        return self._broker

    @property
    def alive(self) -> bool:
        return self._channel is not None and self._lost is None

    async def start(self) -> None:
        if self._channel is not None:
            raise SandboxSpawnFailed("This sandbox was started before.")
        try:
            theirs = self._open_channel()
        except OSError as error:
            await self._give_up()
            raise SandboxSpawnFailed(SHORT.format(why=error.strerror)) from error
        assert self._channel is not None
        self._channel.request(None, op="configure", config=self.configuration())
        self._launching = True
        starting = asyncio.ensure_future(asyncio.to_thread(self._launch, theirs))
        starting.add_done_callback(self._on_launched)
        try:
            await asyncio.shield(starting)
            async with asyncio.timeout(START_TIMEOUT):
                pid = await self._channel.ready
            self._watch(pid)
        except BaseException as error:
            if not starting.done():
                await asyncio.wait([starting])
            await self.stop()
            if isinstance(error, TimeoutError | SandboxLost):
                raise SandboxSpawnFailed(self._start_error()) from error
            if isinstance(error, OSError):
                raise SandboxSpawnFailed(SHORT.format(why=error.strerror)) from error
            raise

    def _open_channel(self) -> socket.socket:
        """Make the broker and this side of the channel; the other side. Raises ``OSError``."""
        shared = not self.own_network
        broker = self._broker = make_proxy(self._spec, self._settings, shared=shared)
        if shared:
            self.door_port = open_on_host(broker, self.outside_uid())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = Channel(ours, self._mark_lost, None if shared else broker.start)
        return theirs

    async def _give_up(self) -> None:
        """Nothing of the sandbox was made but perhaps its broker."""
        self._lost = SandboxLost("The sandbox is gone: it was never made.")
        self._closing = True
        self._closed.set()
        if self._broker is not None:
            await self._broker.close()

    def _launch(self, theirs: socket.socket) -> Launched:
        plan = LaunchPlan(uid=None)
        try:
            with theirs:
                control = plan.add(os.dup(theirs.fileno()))
            bundle = plan.add(sealed_file("loopat-supervisor", self.bundle()))
            self._stderr = os.memfd_create("loopat-stderr")
            plan.stderr = plan.add(os.dup(self._stderr))
            plan.fixed = [(CONTROL_FD, control), (BUNDLE_FD, bundle)]
            self._membership.begin(plan)
            return self.begin(plan)
        finally:
            plan.close()

    def _on_launched(self, starting: asyncio.Future[Launched]) -> None:
        """The outer process is there, or was never made."""
        self._launching = False
        if not starting.cancelled() and starting.exception() is None:
            self._follow(starting.result().pidfd)
        if self._lost is not None:
            self._mark_lost("it ended")

    def _follow(self, pidfd: int) -> None:
        self._pids.append(pidfd)
        asyncio.get_running_loop().add_reader(pidfd, self._on_exit, pidfd)

    def _watch(self, pid: int) -> None:
        """Follow the supervisor itself too: it is the last to go of its namespace."""
        assert self._stderr is not None
        if said := os.pread(self._stderr, 2000, 0):
            log.warning("%s: %s", self._spec.loop_id, said.decode(errors="replace").strip())
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._mark_lost("it ended")
            raise SandboxSpawnFailed(self._start_error()) from None
        self._supervised = True
        self._follow(pidfd)

    def _start_error(self) -> str:
        said = self._said.splitlines()[-1] if self._said else "no reason given"
        return f"The sandbox did not start: {said}"

    def _on_exit(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        self._pids.remove(pidfd)
        self._mark_lost("it ended")

    def _mark_lost(self, why: str) -> None:
        """End the sandbox, for whatever reason; those who wait are told at once."""
        if self._lost is None:
            self._lost = SandboxLost(f"The sandbox is gone: {why}.")
            if self._channel is not None:
                self._channel.fail(self._lost)
                self._channel.close()
            if self._broker is not None:
                self._broker.stop_listening()
        if self._pids:
            self.end_processes()
        elif not self._launching and not self._closing:
            self._closing = True
            self.close()

    def close(self) -> None:
        """Nothing of it lives any more: let go of what is left, and say so to those who wait."""
        forget(self._settings.run_dir, self._spec.loop_id)
        if self._stderr is not None:
            self._said = os.pread(self._stderr, 4000, 0).decode(errors="replace").strip()
            os.close(self._stderr)
            self._stderr = None
        self._finalize()

    def _finalize(self) -> None:
        """The last of it."""
        self._membership.clear(self._closed.set)

    def send_all(self, number: int) -> None:
        """Signal the outer process and the supervisor."""
        for pidfd in self._pids:
            self.send(pidfd, number)

    def send(self, pidfd: int, number: int) -> None:
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return  # its pidfd will say so

    async def stop(self) -> None:
        self._mark_lost("it was stopped")
        await self._closed.wait()
        if self._broker is not None:
            await self._broker.close()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    # ------------------------------------------------------------------ work

    def configuration(self) -> dict[str, Any]:
        """What the supervisor is told first."""
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
            "proxy": proxy_config(self._broker, self.door_port) if self.proxied else None,
        }

    def _living(self) -> Channel:
        if self._channel is None:
            raise SandboxLost("The sandbox has not been started.")
        if self._lost is not None:
            raise self._lost
        return self._channel

    async def run(self, command: str, *, timeout: float, background: bool = False) -> CommandResult:
        if "\0" in command:
            return CommandResult(126, "A command cannot contain a NUL character.")
        text = command.encode(errors="surrogateescape").decode(errors="replace")
        kills = self._membership.memory_kills()
        output, end = await self._request_reply(
            self._settings.limits.output + 4 * KIB,
            timeout,
            {"op": "run", "command": text, "timeout": timeout, "background": background},
        )
        if "error" in end:
            return CommandResult(126, f"The command could not be started: {end['error']}.")
        return CommandResult(
            exit_code=_integer(end.get("exit")),
            output=output.decode(errors="replace") + self._membership.memory_note(kills),
            timed_out=end.get("timed_out") is True,
            output_file=str(end["file"]) if end.get("file") else None,
            background_pid=_integer(end.get("pid")),
        )

    async def file(self, op: str, /, **args: Any) -> dict[str, Any]:
        timeout = self._settings.limits.file_timeout
        ask = {"op": "file", "file_op": op, "args": args}
        data, end = await self._request_reply(FILE_ANSWER_MAX, timeout, ask)
        return parse_file_reply(data, end)

    async def _request_reply(
        self, limit: int, timeout: float, ask: dict[str, Any]
    ) -> tuple[bytes, dict[str, Any]]:
        """One request and its answer; killed inside when this is cancelled."""
        channel = self._living()
        exchange = Request(limit)
        request = channel.request(exchange, **ask)
        try:
            async with asyncio.timeout(timeout + GRACE):
                return await asyncio.shield(exchange.done)
        except TimeoutError:
            self._mark_lost("its supervisor does not answer")
            raise self._living_error() from None
        except asyncio.CancelledError:
            channel.send(protocol.KILL, request, bytes([signal.SIGKILL]))
            await asyncio.wait([exchange.done], timeout=KILL_GRACE)
            if not exchange.done.done():
                self._mark_lost("its supervisor does not answer")
            raise

    def _living_error(self) -> SandboxLost:
        return self._lost or SandboxLost("The sandbox is gone.")

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        pty: tuple[int, int] | None = None,
    ) -> Process:
        channel = self._living()
        process = StreamedProcess()
        request = channel.request(
            process,
            op="spawn",
            argv=list(argv),
            cwd=cwd,
            env=dict(env) if env is not None else None,
            pty=pty,
        )
        process.attach(lambda kind, payload: channel.send(kind, request, payload))
        try:
            async with asyncio.timeout(GRACE):
                await asyncio.shield(process.started)
        except TimeoutError:
            self._mark_lost("its supervisor does not answer")
            raise self._living_error() from None
        except asyncio.CancelledError:
            channel.send(protocol.KILL, request, bytes([signal.SIGKILL]))
            raise
        return process


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
