"""The tier ``none``: the server's own user, and no walls. Only when the administrator says so.

What is still true: a clean environment, limits for each process, the same supervisor (so the
same commands, output caps and file operations), and on stop every process that descends from
the loop is killed, as well as that can be done without a namespace.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loopat_jupyter.loops.ports.sandbox import SandboxIsolation, SandboxSpec
from loopat_jupyter.sandboxes.launcher.client import Launcher, LaunchPlan
from loopat_jupyter.sandboxes.runtime.limits import (
    PROCESSES_GAP,
    STRAY_GAP,
    enforced_controllers,
    with_cgroups,
)
from loopat_jupyter.sandboxes.runtime.sandbox import SupervisedSandbox
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

END_GRACE = 3.0
TIER = SandboxIsolation(
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
    """The server's user; in some containers it has a number only."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


class UnconfinedTier:
    """See :class:`loopat_jupyter.loops.ports.sandbox.SandboxTier`."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._launcher = Launcher()
        self._isolation = with_cgroups(TIER, enforced_controllers(settings))

    @property
    def isolation(self) -> SandboxIsolation:
        return self._isolation

    def create(self, spec: SandboxSpec) -> UnconfinedSandbox:
        return UnconfinedSandbox(spec, self._settings, self._launcher, self._isolation)

    async def retained(self) -> Sequence[str]:
        return ()

    async def remove(self, loop_id: str) -> None:
        """Nothing of a loop's sandbox is kept."""

    def close(self) -> None:
        self._launcher.close()


class UnconfinedSandbox(SupervisedSandbox):
    """A loop's processes beside the server's own."""

    own_network = False
    proxied = False  # the network is open; the broker's door is there for the model alone

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
        user = user_name()
        path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
        return {
            "PATH": f"{Path(sys.prefix) / 'bin'}:{path}",
            "HOME": self.home,
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
        }

    def prepare(self, launch: LaunchPlan, supervisor: list[str | tuple[str, int]]) -> None:
        for folder in self._spec.folders:
            link = self._spec.workdir / folder.name
            if not os.path.lexists(link):
                link.symlink_to(folder.source)
        launch.argv = supervisor

    def end_processes(self) -> None:
        """The end of the channel makes the supervisor kill what it started; then force."""
        asyncio.get_running_loop().call_later(END_GRACE, self.send_all, signal.SIGKILL)
