"""The tier ``none``: processes of the server's own user, without isolation.

It is used only when the administrator sets it.

What holds all the same: a clean environment, limits for each process, and the same supervisor, with
its commands, bounds on output, and file operations. On stop every process that descends from the
loop's is killed, as far as it can be found without a namespace.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import sys
from pathlib import Path
from typing import Any

from loopat_jupyter.loops.ports.sandbox import SandboxIsolation, SandboxSpec
from loopat_jupyter.sandboxes.launcher.client import Launcher, LaunchPlan
from loopat_jupyter.sandboxes.runtime.environment import base_environment
from loopat_jupyter.sandboxes.runtime.limits import (
    PROCESSES_GAP,
    STRAY_GAP,
    enforced_controllers,
)
from loopat_jupyter.sandboxes.runtime.probe import Attempt, TierProbe
from loopat_jupyter.sandboxes.runtime.sandbox import LauncherTier, SupervisedSandbox
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

END_GRACE = 3.0
ISOLATION = SandboxIsolation(
    tier="none",
    isolates=False,
    enforced=("a clean environment", "limits on memory, open files, file size, output and time"),
    gaps=(
        "the agent can do whatever the server's user can: read its files and secrets, use its "
        "network, end its processes",
        PROCESSES_GAP,
        STRAY_GAP,
    ),
)


def user_name() -> str:
    """The name of the server's user, or its number: in some containers it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def try_none(settings: SandboxSettings) -> Attempt:
    """See :data:`loopat_jupyter.sandboxes.runtime.probe.Try`. It works everywhere."""
    detail = "no isolation; only when the administrator sets it"
    held = enforced_controllers(settings)
    return Attempt(UnconfinedTier(settings), TierProbe("none", True, detail, controllers=held))


class UnconfinedTier(LauncherTier):
    """Creates sandboxes without isolation."""

    def __init__(self, settings: SandboxSettings) -> None:
        super().__init__(settings, Launcher(), ISOLATION)

    def create(self, spec: SandboxSpec) -> UnconfinedSandbox:
        return UnconfinedSandbox(spec, self._settings, self._launcher, self._isolation)


class UnconfinedSandbox(SupervisedSandbox):
    """A loop's processes, as the server's own user and in the host's namespaces."""

    own_network = False
    proxied = False  # the network is open; the egress proxy is there for the model gateway alone

    def __init__(
        self,
        spec: SandboxSpec,
        settings: SandboxSettings,
        launcher: Launcher,
        isolation: SandboxIsolation,
    ) -> None:
        super().__init__(spec, settings, launcher, isolation)
        self.workdir = str(spec.workdir.resolve())
        self.home = str(spec.home.resolve())

    def configuration(self) -> dict[str, Any]:
        # RLIMIT_NPROC would count the user's processes on the whole host.
        return {**super().configuration(), "processes": None}

    def environment(self) -> dict[str, str]:
        path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        return base_environment(f"{Path(sys.prefix) / 'bin'}:{path}", self.home, user_name())

    def prepare(self, plan: LaunchPlan, supervisor: list[str | tuple[str, int]]) -> None:
        for folder in self._spec.folders:
            link = self._spec.workdir / folder.name
            if not os.path.lexists(link):
                link.symlink_to(folder.source)
        plan.argv = supervisor

    def end_processes(self) -> None:
        """At the end of its channel the supervisor kills what it started; later both are killed."""
        asyncio.get_running_loop().call_later(END_GRACE, self.signal_all, signal.SIGKILL)
