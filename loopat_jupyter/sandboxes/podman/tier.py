"""The tier ``podman``: a container for each loop, with an image and toolchain of its own.

Invariants
----------
* The supervisor is the container's first process. Its channel, its sources and its stderr are
  handed in as descriptors when the container is started, so nothing of ours lies in the image.
* A loop has one container, made when it first needs one and kept until the loop is archived. Its
  root is read-only; what a loop keeps is in its workdir and home. A container whose arguments
  would be others today is made anew.
* Nobody in it is root on the host: an ordinary server maps its own user into the container and no
  other that owns anything; a root server runs it as ``sandbox_uid``.
* It ends with its supervisor. conmon, podman's own watcher, then unmounts it and ends too; the
  sandbox is closed when conmon is gone.
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
from loopat_jupyter.sandboxes.bubblewrap.tier import refuse_occupied
from loopat_jupyter.sandboxes.inside.bundle import BUNDLE_FD, source_bundle
from loopat_jupyter.sandboxes.launcher.client import Launched, LaunchPlan
from loopat_jupyter.sandboxes.launcher.ownership import hand_over
from loopat_jupyter.sandboxes.podman.cli import Podman, PodmanFailed
from loopat_jupyter.sandboxes.podman.containers import Containers
from loopat_jupyter.sandboxes.podman.image import Image, ImageSource
from loopat_jupyter.sandboxes.podman.limits import (
    controllers_in_force,
    counts_of_kills,
    kills_counted,
)
from loopat_jupyter.sandboxes.podman.mounts import arguments, verify
from loopat_jupyter.sandboxes.runtime.mounts import HOME, UID, USER, WORKDIR
from loopat_jupyter.sandboxes.runtime.sandbox import SupervisedSandbox
from loopat_jupyter.sandboxes.runtime.seccomp import program
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
NOT_FOR_AGENTS = {"container", "HOSTNAME", "LISTEN_FDS", "LISTEN_PID"}
SELINUX = Path("/sys/fs/selinux/enforce")
OWN_PROCESSES = 2
"""What the supervisor and a file operation take of a container's processes."""
NPROC_MAX, NOFILE_MAX = 1 << 15, 1 << 20
"""The most that podman leaves itself to give."""
CLEANUP_GRACE = 20.0
"""How long conmon may take to unmount a container that has ended."""


class PodmanTier:
    """Makes podman sandboxes; see :class:`loopat_jupyter.loops.ports.sandbox.SandboxTier`.

    ``cgroups`` says whether podman is to make a cgroup for each container; ``controllers`` are
    those that a probe has seen in force, by podman's cgroups or by ours.
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
        """The loops that have a container, of earlier servers too."""
        return await asyncio.to_thread(self.containers.loops)

    async def remove(self, loop_id: str) -> None:
        """Remove the loop's container; the loop was archived."""
        await asyncio.to_thread(self.containers.remove, loop_id)

    def close(self) -> None:
        """Nothing of podman's runs between sandboxes."""


class PodmanSandbox(SupervisedSandbox):
    workdir = str(WORKDIR)
    home = str(HOME)

    def __init__(self, spec: SandboxSpec, tier: PodmanTier) -> None:
        super().__init__(spec, tier.settings, None, tier.isolation)
        self._tier = tier
        self._image: Image | None = None
        self._init: int | None = None
        self._conmon: int | None = None
        self._abandoned = False
        self._removing: asyncio.Future[None] | None = None
        self._uid = tier.settings.sandbox_uid if os.geteuid() == 0 else UID

    async def start(self) -> None:
        self._image = await self._tier.image.get()
        await super().start()

    def environment(self) -> dict[str, str]:
        assert self._image is not None
        given = {k: v for k, v in self._image.env.items() if k not in NOT_FOR_AGENTS}
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            **given,
            "HOME": self.home,
            "USER": USER,
            "LOGNAME": USER,
            "SHELL": "/bin/bash",
            "TERM": "dumb",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def configuration(self) -> dict[str, Any]:
        config = super().configuration()
        held = self._tier.controllers
        if "pids" in held and os.geteuid() == 0:
            # The kernel would count what all sandboxes of this user have together.
            config["processes"] = None
        config["memory_watch"] = "memory" not in held
        config["filter"] = program()
        return config

    def bundle(self) -> bytes:
        return source_bundle()

    # ------------------------------------------------------------------ start

    def begin(self, plan: LaunchPlan) -> Launched:
        """Start the loop's container, made first where there is none, or another one."""
        self._ready_directories()
        containers, loop_id = self._tier.containers, self._spec.loop_id
        options = self._options(containers)
        digest = hashlib.sha256(repr(options).encode()).hexdigest()[:16]
        handed = [plan.fds[index] for _, index in plan.fixed] + [plan.fds[plan.stderr]]
        try:
            containers.ensure(loop_id, digest, options)
            conmon, init = containers.start(loop_id, handed)
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
                os.kill(init, signal.SIGKILL)  # it cannot be followed; conmon clears up after it
                raise
            raise SandboxSpawnFailed(
                "The sandbox ended as soon as it had started. Its image needs a python3 "
                "from version 3.9 on."
            ) from None
        try:
            self._look_at(init)
        except BaseException:
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
            os.close(pidfd)
            raise
        self._conmon = pidfd
        return Launched(conmon, pidfd)

    def _ready_directories(self) -> None:
        for own in (self._spec.workdir, self._spec.home):
            if os.geteuid() == 0:
                hand_over(own, self._uid)
            # The agent may have shut its own directory; then nothing would ever start in it.
            own.chmod(own.stat().st_mode | 0o700)
        refuse_occupied(self._spec)

    def _look_at(self, init: int) -> None:
        """What was asked for is what is there: mounts, and limits."""
        verify(init, self._spec, self._settings)
        if self._membership.admit(init):
            return
        if missing := self._tier.controllers - controllers_in_force(init):
            raise SandboxSpawnFailed(
                f"The sandbox did not start: its limits of {' and '.join(sorted(missing))} are "
                "not in force, though they were when the server started. Restart the server."
            )
        if "memory" in self._tier.controllers:
            self._membership.observe(partial(kills_counted, counts_of_kills(init)))

    def _options(self, containers: Containers) -> list[str]:
        assert self._image is not None
        return [
            *FLAGS,
            *self._user(),
            *limit_options(self._settings, self._tier.cgroups),
            *(["--security-opt=label=disable"] if SELINUX.exists() else []),
            *arguments(self._spec, self._settings, containers.files),
            *containers.pid_files(self._spec.loop_id),
            self._image.id,
            *SUPERVISOR,
        ]

    def _user(self) -> list[str]:
        account = f"{USER}:x:{self._uid}:{self._uid}:{USER}:{HOME}:/bin/bash"
        options = [f"--user={self._uid}:{self._uid}", f"--passwd-entry={account}"]
        if os.geteuid() != 0:
            options.append(f"--userns=keep-id:uid={UID},gid={UID}")
        return options

    # ------------------------------------------------------------------ end

    def end_processes(self) -> None:
        """The container's first process ends all others; then conmon cleans up and ends."""
        if self._init is not None:
            self.send(self._init, signal.SIGKILL)
        asyncio.get_running_loop().call_later(CLEANUP_GRACE, self._force)

    def _force(self) -> None:
        if self._pids:
            self._abandoned = True
            self.send_all(signal.SIGKILL)

    def _on_exit(self, pidfd: int) -> None:
        if pidfd == self._conmon and self._init is not None and not has_ended(self._init):
            self._abandoned = True
        super()._on_exit(pidfd)

    def _clear(self) -> None:
        """conmon has cleaned up. Where it was killed, the container is of no use any more."""
        if self._init is not None:
            os.close(self._init)
            self._init = None
        if not self._abandoned:
            super()._finalize()
        elif self._removing is None:
            remove = asyncio.to_thread(self._tier.containers.remove, self._spec.loop_id)
            self._removing = asyncio.ensure_future(remove)
            self._removing.add_done_callback(self._removed)

    def _removed(self, _: asyncio.Future[None]) -> None:
        super()._finalize()


def has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def limit_options(settings: SandboxSettings, cgroups: bool) -> list[str]:
    """The limits, as far as podman sets them; the supervisor sets those of each process."""
    limits = settings.limits
    options = [
        f"--shm-size={limits.memory_files}b",
        f"--tmpfs=/tmp:rw,nosuid,nodev,size={limits.memory_files},mode=1777",
        f"--ulimit=nofile={_most(resource.RLIMIT_NOFILE, NOFILE_MAX)}",
        f"--ulimit=nproc={_most(resource.RLIMIT_NPROC, NPROC_MAX)}",
    ]
    if not cgroups:
        return [*options, "--cgroups=disabled"]
    options += [
        f"--memory={limits.memory}b",
        f"--memory-swap={limits.memory}b",
        f"--pids-limit={limits.processes + OWN_PROCESSES}",
    ]
    return [*options, f"--cpus={limits.cpus}"] if limits.cpus else options


def _most(limit: int, most: int) -> str:
    _, hard = resource.getrlimit(limit)
    value = most if hard == resource.RLIM_INFINITY else min(hard, most)
    return f"{value}:{value}"
