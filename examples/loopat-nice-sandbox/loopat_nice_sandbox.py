"""A sandbox tier that lowers the priority of an agent's processes. It isolates nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from typing import Any

from loopat_jupyter.loops.ports.sandbox import SandboxIsolation, SandboxSpec
from loopat_jupyter.sandboxes.launcher.client import Launcher, LaunchPlan
from loopat_jupyter.sandboxes.runtime.probe import Attempt, TierProbe
from loopat_jupyter.sandboxes.runtime.sandbox import SupervisedSandbox
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

ISOLATION = SandboxIsolation(
    tier="nice",  # the entry point's name
    isolates=False,  # so that new loops ask before they run anything
    enforced=("a low priority of all processes",),
    gaps=("the agent can do whatever the server's user can",),
)


def try_nice(settings: SandboxSettings) -> Attempt:
    """What the entry point names: try the tier on this host. Nothing may be left behind."""
    program = shutil.which("nice")
    if program is None:
        missing = TierProbe("nice", False, "the program nice was not found", "install coreutils")
        return Attempt(None, missing)
    return Attempt(NiceTier(settings, program), TierProbe("nice", True, "nice was found"))


class NiceTier:
    """Implements :class:`loopat_jupyter.loops.ports.sandbox.SandboxTier`."""

    isolation = ISOLATION

    def __init__(self, settings: SandboxSettings, program: str) -> None:
        self._settings = settings
        self._program = program
        self._launcher = Launcher()  # one process that starts all sandboxes of the tier

    def create(self, spec: SandboxSpec) -> NiceSandbox:
        return NiceSandbox(spec, self._settings, self._launcher, self._program)

    async def retained(self) -> Sequence[str]:
        return ()

    async def remove(self, loop_id: str) -> None:
        """Nothing is kept of a loop's sandbox."""

    def close(self) -> None:
        self._launcher.close()


class NiceSandbox(SupervisedSandbox):
    """One loop's processes, with the package's supervisor as their parent."""

    own_network = False  # it has no network namespace
    proxied = False  # and programs inside are not told to use the proxy

    def __init__(
        self, spec: SandboxSpec, settings: SandboxSettings, launcher: Launcher, program: str
    ) -> None:
        super().__init__(spec, settings, launcher, ISOLATION)
        self._program = program
        self.workdir = str(spec.workdir)  # where these are *inside*: here the same as on the host
        self.home = str(spec.home)

    def environment(self) -> dict[str, str]:
        """All of it: nothing of the server's own environment goes inside."""
        return {"PATH": os.environ["PATH"], "HOME": self.home, "LANG": "C.UTF-8", "TERM": "dumb"}

    def configuration(self) -> dict[str, Any]:
        # The kernel's limit on processes counts all processes of the server's user.
        return {**super().configuration(), "processes": None}

    def prepare(self, plan: LaunchPlan, supervisor: list[str | tuple[str, int]]) -> None:
        for folder in self._spec.folders:  # folders that a person gave to the loop
            link = self._spec.workdir / folder.name
            if not os.path.lexists(link):
                link.symlink_to(folder.source)
        plan.argv = [self._program, "-n", "10", *supervisor]

    def end_processes(self) -> None:
        """The supervisor ends what it started when its channel ends; kill it if it does not."""
        asyncio.get_running_loop().call_later(3.0, self.signal_all, signal.SIGKILL)
