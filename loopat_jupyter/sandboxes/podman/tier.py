"""The tier ``podman``: a container for each loop, with its own image and toolchain.

Invariants
----------
* The supervisor is the container's first process. Its channel, its sources and its stderr are
  passed as descriptors when the container is started, so the image needs nothing of this package.
* A loop has one container, created when it first needs one and kept until the loop is archived. Its
  root is read-only; what a loop keeps is in its workdir and home. A container whose options would
  be different now is replaced.
* No user in it is root on the host: a server of an ordinary user maps its own user into the
  container and no other that owns anything; a root server runs it as ``sandbox_uid``.
* It ends with its supervisor. conmon, podman's monitor of the container, then unmounts it and ends
  too; the sandbox is closed when conmon has ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import select
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxIsolation, SandboxSpec
from loopat_jupyter.sandboxes.bubblewrap.tier import refuse_occupied_mount_points
from loopat_jupyter.sandboxes.inside.bundle import BUNDLE_FD, source_bundle
from loopat_jupyter.sandboxes.launcher.client import Launched, LaunchPlan
from loopat_jupyter.sandboxes.launcher.ownership import prepare_directories
from loopat_jupyter.sandboxes.podman.cli import Podman, PodmanFailed
from loopat_jupyter.sandboxes.podman.containers import Containers
from loopat_jupyter.sandboxes.podman.image import Image, ImageSource
from loopat_jupyter.sandboxes.podman.limits import controllers_in_force, oom_kill_files
from loopat_jupyter.sandboxes.podman.mounts import mount_options, verify_mounts
from loopat_jupyter.sandboxes.runtime.cgroups import count_oom_kills
from loopat_jupyter.sandboxes.runtime.environment import SYSTEM_PATH, base_environment
from loopat_jupyter.sandboxes.runtime.mounts import HOME, UID, USER, WORKDIR
from loopat_jupyter.sandboxes.runtime.sandbox import SupervisedSandbox
from loopat_jupyter.sandboxes.runtime.seccomp import filter_program
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

FLAGS = (
    *("--pull=never", "--log-driver=none", "--restart=no", "--stop-timeout=0"),
    *("--hostname=loopat", "--network=none", "--no-hosts"),
    *("--ipc=private", "--pid=private", "--uts=private", "--cgroupns=private"),
    *("--cap-drop=all", "--security-opt=no-new-privileges"),
    *("--read-only", "--read-only-tmpfs=false", "--image-volume=ignore"),
    *("--no-healthcheck", "--http-proxy=false", "--systemd=false", "--umask=0022"),
    *("--workdir=/", "--entrypoint=python3"),
)
SUPERVISOR = ("-I", "-S", "-B", f"/proc/self/fd/{BUNDLE_FD}")
REMOVED_ENVIRONMENT = {"container", "HOSTNAME", "LISTEN_FDS", "LISTEN_PID"}
SELINUX = Path("/sys/fs/selinux/enforce")
OWN_PROCESSES = 2
"""Processes of the supervisor and a file operation, in a container beside the agent's."""
NPROC_MAX, NOFILE_MAX = 1 << 15, 1 << 20
"""The highest limits that podman itself can be counted on to have."""
CLEANUP_GRACE = 20.0
"""Seconds that conmon may take to unmount a container that has ended."""


class PodmanTier:
    """Creates podman sandboxes; see :class:`loopat_jupyter.loops.ports.sandbox.SandboxTier`.

    ``cgroups``: podman is to make a cgroup for each container. ``controllers`` are those that the
    probe has found in force, in podman's cgroups or in the server's.
    """

    def __init__(
        self,
        settings: SandboxSettings,
        podman: Podman,
        isolation: SandboxIsolation,
        *,
        cgroups: bool,
        controllers: frozenset[str],
    ) -> None:
        self.settings = settings
        self.podman = podman
        self.isolation = isolation
        self.cgroups = cgroups
        self.controllers = controllers
        self.image = ImageSource(podman, settings.podman)
        self.containers = Containers(podman, settings.run_dir)

    def create(self, spec: SandboxSpec) -> PodmanSandbox:
        return PodmanSandbox(spec, self)

    async def retained(self) -> Sequence[str]:
        """The loops that have a container, also of earlier servers."""
        return await asyncio.to_thread(self.containers.loops_with_container)

    async def remove(self, loop_id: str) -> None:
        """Remove the loop's container; the loop was archived."""
        await asyncio.to_thread(self.containers.remove, loop_id)

    def close(self) -> None:
        """Does nothing: podman has no process that outlives its sandboxes."""


class PodmanSandbox(SupervisedSandbox):
    """A loop's container; its outer process is conmon."""

    workdir = str(WORKDIR)
    home = str(HOME)

    def __init__(self, spec: SandboxSpec, tier: PodmanTier) -> None:
        super().__init__(spec, tier.settings, None, tier.isolation)
        self._tier = tier
        self._image: Image | None = None
        self._init: int | None = None
        self._conmon: int | None = None
        self._abandoned = False
        self._removal: asyncio.Future[None] | None = None
        self._uid = sandbox_uid(tier.settings)

    async def start(self) -> None:
        self._image = await self._tier.image.get()
        await super().start()

    def environment(self) -> dict[str, str]:
        assert self._image is not None
        given = {k: v for k, v in self._image.env.items() if k not in REMOVED_ENVIRONMENT}
        base = base_environment(given.get("PATH", SYSTEM_PATH), self.home, USER)
        base["LANG"] = given.get("LANG", base["LANG"])
        return {**given, **base, "PYTHONDONTWRITEBYTECODE": "1"}

    def configuration(self) -> dict[str, Any]:
        config = super().configuration()
        held = self._tier.controllers
        if "pids" in held and os.geteuid() == 0:
            # RLIMIT_NPROC would count the processes of all sandboxes of this user together.
            config["processes"] = None
        config["memory_watch"] = "memory" not in held
        config["filter"] = filter_program()
        return config

    def bundle(self) -> bytes:
        return source_bundle()

    # ------------------------------------------------------------------ start

    def launch_outer(self, plan: LaunchPlan) -> Launched:
        """Start the loop's container; created first where there is none with these options."""
        uid = self._uid if os.geteuid() == 0 else None
        prepare_directories((self._spec.workdir, self._spec.home), uid)
        refuse_occupied_mount_points(self._spec)
        containers, loop_id = self._tier.containers, self._spec.loop_id
        options = self._options(containers)
        digest = hashlib.sha256(repr(options).encode()).hexdigest()[:16]
        passed = [plan.fds[index] for _, index in plan.fixed] + [plan.fds[plan.stderr]]
        try:
            containers.ensure_created(loop_id, digest, options)
            conmon, init = containers.start(loop_id, passed)
        except PodmanFailed as error:
            containers.remove(loop_id)
            raise SandboxSpawnFailed(
                f"The sandbox did not start: {error.message.rstrip('.')}. `loopat doctor` shows "
                "whether podman works on this host."
            ) from error
        try:
            self._init = os.pidfd_open(init)
            pidfd = os.pidfd_open(conmon)
        except OSError as error:
            if not isinstance(error, ProcessLookupError):
                os.kill(init, signal.SIGKILL)  # it cannot be watched; conmon cleans up after it
                raise
            raise SandboxSpawnFailed(
                "The sandbox ended as soon as it had started. Its image needs a python3 "
                "from version 3.9 on."
            ) from None
        try:
            self._verify_started(init)
        except BaseException:
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
            os.close(pidfd)
            raise
        self._conmon = pidfd
        return Launched(conmon, pidfd)

    def _verify_started(self, init: int) -> None:
        """Check that the container has the mounts and the limits that were asked for. Raises
        ``SandboxSpawnFailed``."""
        verify_mounts(init, self._spec, self._settings)
        if self._cgroup.add_process(init):
            return
        if missing := self._tier.controllers - controllers_in_force(init):
            raise SandboxSpawnFailed(
                f"The sandbox did not start: its limits of {' and '.join(sorted(missing))} are "
                "not in force, though they were when the server started. Restart the server."
            )
        if "memory" in self._tier.controllers:
            self._cgroup.count_kills_with(partial(count_oom_kills, oom_kill_files(init)))

    def _options(self, containers: Containers) -> list[str]:
        assert self._image is not None
        return [
            *FLAGS,
            *user_options(self._uid),
            f"--passwd-entry={USER}:x:{self._uid}:{self._uid}:{USER}:{HOME}:/bin/bash",
            *limit_options(self._settings, self._tier.cgroups),
            *(["--security-opt=label=disable"] if SELINUX.exists() else []),
            *mount_options(self._spec, self._settings, containers.files),
            *containers.pid_files(self._spec.loop_id),
            self._image.id,
            *SUPERVISOR,
        ]

    # ------------------------------------------------------------------ end

    def end_processes(self) -> None:
        """Kill the container's first process, and the kernel all others; conmon then cleans up."""
        if self._init is not None:
            self.send_signal(self._init, signal.SIGKILL)
        asyncio.get_running_loop().call_later(CLEANUP_GRACE, self._kill_remaining)

    def _kill_remaining(self) -> None:
        if self._pids:
            self._abandoned = True
            self.signal_all(signal.SIGKILL)

    def _on_exit(self, pidfd: int) -> None:
        if pidfd == self._conmon and self._init is not None and not has_ended(self._init):
            self._abandoned = True
        super()._on_exit(pidfd)

    def _finalize(self) -> None:
        """conmon has cleaned up; where it was killed, the container is removed."""
        if self._init is not None:
            os.close(self._init)
            self._init = None
        if not self._abandoned:
            super()._finalize()
        elif self._removal is None:
            remove = asyncio.to_thread(self._tier.containers.remove, self._spec.loop_id)
            self._removal = asyncio.ensure_future(remove)
            self._removal.add_done_callback(self._removed)

    def _removed(self, _: asyncio.Future[None]) -> None:
        super()._finalize()


def has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def sandbox_uid(settings: SandboxSettings) -> int:
    """The uid of the agent's processes, as they see it themselves."""
    return settings.sandbox_uid if os.geteuid() == 0 else UID


def user_options(uid: int) -> list[str]:
    """The options for the container's user, which is the server's own unless that is root."""
    mapped = [] if os.geteuid() == 0 else [f"--userns=keep-id:uid={uid},gid={uid}"]
    return [f"--user={uid}:{uid}", *mapped]


def limit_options(settings: SandboxSettings, cgroups: bool) -> list[str]:
    """The options for limits that podman sets; the supervisor sets those of each process."""
    limits = settings.limits
    options = [
        f"--shm-size={limits.memory_files}b",
        f"--tmpfs=/tmp:rw,nosuid,nodev,size={limits.memory_files},mode=1777",
        f"--ulimit=nofile={_ulimit(resource.RLIMIT_NOFILE, NOFILE_MAX)}",
        f"--ulimit=nproc={_ulimit(resource.RLIMIT_NPROC, NPROC_MAX)}",
    ]
    if not cgroups:
        return [*options, "--cgroups=disabled"]
    options += [
        f"--memory={limits.memory}b",
        f"--memory-swap={limits.memory}b",
        f"--pids-limit={limits.processes + OWN_PROCESSES}",
    ]
    return [*options, f"--cpus={limits.cpus}"] if limits.cpus else options


def _ulimit(limit: int, most: int) -> str:
    _, hard = resource.getrlimit(limit)
    value = most if hard == resource.RLIM_INFINITY else min(hard, most)
    return f"{value}:{value}"
