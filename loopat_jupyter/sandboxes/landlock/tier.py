"""The tier ``landlock``: no namespaces; Landlock, two system call filters and a monitor.

Invariants
----------
* Nothing is granted by default: the rules name what may be opened
  (:mod:`loopat_jupyter.sandboxes.landlock.grants`), and the filter refuses what Landlock does not
  restrict (:mod:`loopat_jupyter.sandboxes.landlock.seccomp`).
* Paths inside are the host's own; folders appear in the workdir as symlinks.
* Every rule is made from a descriptor that was opened here, so that a path cannot lead to another
  file in between.
* A root server's sandbox runs as ``sandbox_uid``; where root may mount, the launcher makes what
  only root could reach reachable for that user.
* What is not restricted is listed in its :class:`SandboxIsolation`, by the version of Landlock.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxIsolation, SandboxSpec
from loopat_jupyter.sandboxes.inside.bundle import RULES_FD
from loopat_jupyter.sandboxes.landlock import seccomp as landlock_seccomp
from loopat_jupyter.sandboxes.landlock.grants import (
    PROC_FILES,
    Grant,
    host_grants,
    loop_grants,
    supervisor_grants,
)
from loopat_jupyter.sandboxes.landlock.isolation import isolation
from loopat_jupyter.sandboxes.landlock.ruleset import (
    KNOWN_ABI,
    SCOPE_ABSTRACT_UNIX,
    SCOPE_SIGNAL,
    WRITE,
    Ruleset,
)
from loopat_jupyter.sandboxes.launcher.client import Launcher, LaunchPlan
from loopat_jupyter.sandboxes.launcher.ownership import grant_traverse, prepare_directories
from loopat_jupyter.sandboxes.launcher.safe_open import open_beneath
from loopat_jupyter.sandboxes.none import user_name
from loopat_jupyter.sandboxes.runtime import seccomp
from loopat_jupyter.sandboxes.runtime.environment import clean_environment
from loopat_jupyter.sandboxes.runtime.mounts import USER, Bind, host_mounts
from loopat_jupyter.sandboxes.runtime.sandbox import START_GRACE, LauncherTier, SupervisedSandbox
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

MONITOR_GRACE = 20.0
"""Seconds that the monitor may take to kill everything and to empty the temporary directory."""
CAP_SYS_ADMIN = 21
NOT_REACHABLE = (
    "The sandbox's user cannot get to {what}: a directory on the way is closed to others, and "
    "this server may not mount. Move it to where every user may pass (for the home of loopat, set "
    "LOOPAT_HOME), or run the server as an ordinary user."
)


class LandlockTier(LauncherTier):
    """Creates Landlock sandboxes; see :class:`loopat_jupyter.loops.ports.sandbox.SandboxTier`.

    ``abi`` is the version of Landlock to use, at most the kernel's.
    """

    def __init__(self, settings: SandboxSettings, abi: int) -> None:
        self._abi = min(abi, KNOWN_ABI)
        root = os.geteuid() == 0
        own = isolation(self._abi, root=root, mounts=root and may_mount())
        super().__init__(settings, Launcher(kills_orphans=True), own)

    def create(self, spec: SandboxSpec) -> LandlockSandbox:
        return LandlockSandbox(spec, self._settings, self._launcher, self._isolation, self._abi)


class LandlockSandbox(SupervisedSandbox):
    """A loop's processes in the host's own namespaces, restricted by rules and filters.

    ``proxy_port`` is the one port on 127.0.0.1 that can be connected to from inside. Where it is
    ``None`` no socket can be made at all.
    """

    own_network = False

    def __init__(
        self,
        spec: SandboxSpec,
        settings: SandboxSettings,
        launcher: Launcher,
        isolation: SandboxIsolation,
        abi: int,
    ) -> None:
        super().__init__(spec, settings, launcher, isolation)
        self._abi = abi
        self.workdir = str(spec.workdir.resolve())
        self.home = str(spec.home.resolve())
        self._tmp = settings.run_dir.resolve() / f"{spec.loop_id}.tmp"

    def configuration(self) -> dict[str, Any]:
        return {**super().configuration(), "shared_user": True}

    def outside_uid(self) -> int:
        return self._settings.sandbox_uid if os.geteuid() == 0 else os.geteuid()

    def environment(self) -> dict[str, str]:
        user = USER if os.geteuid() == 0 else user_name()
        env = clean_environment(self._settings, self.home, user)
        # The host's settings for git exist and cannot be read, and git would fail on that.
        return {**env, "TMPDIR": str(self._tmp), "GIT_CONFIG_NOSYSTEM": "1"}

    def prepare(self, plan: LaunchPlan, supervisor: list[str | tuple[str, int]]) -> None:
        uid = self._settings.sandbox_uid if os.geteuid() == 0 else None
        own = (self._spec.workdir, self._spec.home, self._tmp)
        self._tmp.mkdir(mode=0o700, parents=True, exist_ok=True)
        prepare_directories(own, uid)
        link_folders(self._spec)
        grants = [*loop_grants(self._spec, self._settings), Grant(self._tmp, WRITE)]
        if uid is not None:
            plan.uid = uid
            self._make_reachable(plan, uid, own)
        outer = None
        if self._abi >= 6:
            outer = plan.add_fd(Ruleset(self._abi, scope=SCOPE_SIGNAL).detach())
        inner, agent = build_rulesets(self._abi, [*host_grants(self._settings), *grants])
        plan.fixed.append((RULES_FD, plan.add_fd(agent)))
        plan.restrictions = {
            "outer": outer,
            "inner": plan.add_fd(inner),
            "filters": (
                seccomp.filter_program(),
                landlock_seccomp.strict_program(self._abi, self.proxy_port is not None),
            ),
            "marks": (landlock_seccomp.SUPERVISOR_MARK, landlock_seccomp.MONITOR_MARK),
            "calls": landlock_seccomp.notified(),
            "roots": [str(g.path) for g in grants if g.rights == WRITE],
            "proxy_port": self.proxy_port,
            "tmp": plan.add_fd(os.open(self._tmp, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)),
            "pin": [f"/proc/{name}" for name in PROC_FILES if Path("/proc", name).exists()],
        }
        plan.argv = [*supervisor, str(RULES_FD)]

    def _make_reachable(self, plan: LaunchPlan, uid: int, own: Iterable[Path]) -> None:
        """Make every granted path reachable for the user ``uid``. Raises ``SandboxSpawnFailed``."""
        entries, _, _ = host_mounts(self._settings)
        host = [e.source for e in entries if isinstance(e, Bind)]
        folders = [folder.source for folder in self._spec.folders]
        if not may_mount():
            run_dir = self._settings.run_dir.resolve()
            tops = [
                m.resolve() for m in self._settings.masks if run_dir.is_relative_to(m.resolve())
            ]
            grant_traverse(own, tops[0] if tops else run_dir, uid)
            for path in (*own, *host, *folders):
                if not can_traverse(path, uid):
                    raise SandboxSpawnFailed(NOT_REACHABLE.format(what=path.name))
            return
        for path in dict.fromkeys(p.resolve() for p in (*own, *host)):
            if not can_traverse(path, uid):
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
                plan.reach.append((plan.add_fd(fd), str(path), False))
        for path in folders:
            plan.reach.append((plan.add_fd(open_grant(path, shared=True)), str(path), True))

    def end_processes(self) -> None:
        """Kill the supervisor; the monitor then kills all others. After a grace period both."""
        if len(self._pids) == 2:
            self.send_signal(self._pids[1], signal.SIGKILL)
            return
        grace = MONITOR_GRACE if self._supervised else START_GRACE
        asyncio.get_running_loop().call_later(grace, self.signal_all, signal.SIGKILL)

    def close(self) -> None:
        """The monitor has killed everything; if it was killed itself, the launcher does it."""
        assert self._launcher is not None
        killing = asyncio.ensure_future(asyncio.to_thread(self._launcher.kill_orphans))
        killing.add_done_callback(self._close)

    def _close(self, *_: object) -> None:
        self.remove_tmp()
        super().close()

    def remove_tmp(self) -> None:
        """Remove the temporary directory, and what the monitor could not remove in it."""
        shutil.rmtree(self._tmp, ignore_errors=True)


def build_rulesets(abi: int, grants: Iterable[Grant]) -> tuple[int, int]:
    """The supervisor's rules, and the agent's within them; the caller owns both."""
    inner = Ruleset(abi, files=True, tcp=True, scope=SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL)
    try:
        agent = Ruleset(abi, files=True)
    except OSError:
        inner.close()
        raise
    try:
        for grant in grants:
            add_rule(grant, inner, agent)
        for grant in supervisor_grants():
            add_rule(grant, inner)
        return inner.detach(), agent.detach()
    finally:
        inner.close()
        agent.close()


def add_rule(grant: Grant, *sets: Ruleset) -> None:
    if not grant.shared and not grant.path.exists():
        return  # removed since the grants were made
    fd = open_grant(grant.path, shared=grant.shared)
    try:
        for rules in sets:
            rules.allow(fd, grant.rights)
    finally:
        os.close(fd)


def open_grant(path: Path, *, shared: bool) -> int:
    """Open with ``O_PATH``; for a ``shared`` folder no symlink is followed on the way. Raises
    ``SandboxSpawnFailed``."""
    try:
        if shared:
            return open_beneath(path, directory=False)
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        why = error.strerror or "it cannot be opened"
        raise SandboxSpawnFailed(
            f"A directory of the loop cannot be shown: {path.name}: {why}."
        ) from error


def link_folders(spec: SandboxSpec) -> None:
    """Make a symlink in the workdir for each folder, in the place of an empty directory too, which
    is another tier's mount point. Raises ``SandboxSpawnFailed`` when there is anything else."""
    for folder in spec.folders:
        link = spec.workdir / folder.name
        if link.is_symlink() and link.readlink() == folder.source:
            continue
        try:
            if link.is_dir() and not link.is_symlink():
                link.rmdir()
            link.symlink_to(folder.source)
        except OSError as error:
            raise SandboxSpawnFailed(
                f"The folder {folder.name!r} cannot be shown: the workdir holds something else of "
                "that name. Create a loop without that folder, or with another name for it."
            ) from error


def may_mount() -> bool:
    """Whether this process has the capability to mount (CAP_SYS_ADMIN)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)
    return False


def can_traverse(path: Path, uid: int) -> bool:
    """Whether the user (and group) ``uid`` may traverse every directory on the way to ``path``."""
    for parent in path.resolve().parents:
        found = parent.stat()
        bit = stat.S_IXOTH
        if found.st_uid == uid:
            bit = stat.S_IXUSR
        elif found.st_gid == uid:
            bit = stat.S_IXGRP
        if not found.st_mode & bit:
            return False
    return True
