"""One sandbox's cgroup over its whole life, where the server has a delegated subtree.

Where it has none, the methods do nothing: other limits hold then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from loopat_jupyter.sandboxes.launcher.client import LaunchPlan
from loopat_jupyter.sandboxes.runtime.cgroups import Cgroup, CgroupLimits
from loopat_jupyter.sandboxes.runtime.settings import GIB, SandboxSettings

OWN_PROCESSES = 4
"""Processes of the sandbox itself, in its cgroup beside the agent's."""

log = logging.getLogger(__name__)


class SandboxCgroup:
    """Makes the cgroup before a sandbox's outer process starts, and removes it when all ended."""

    def __init__(self, settings: SandboxSettings, loop_id: str) -> None:
        self._settings = settings
        self._loop_id = loop_id
        self._cgroup: Cgroup | None = None
        self._destroying: asyncio.Future[None] | None = None
        self._count_kills: Callable[[], int] = int

    def create(self, plan: LaunchPlan) -> None:
        """Make the cgroup, which the outer process joins first. Raises ``OSError``."""
        if self._settings.cgroup is None:
            return
        limits = self._settings.limits
        share = CgroupLimits(limits.memory, limits.processes + OWN_PROCESSES, limits.cpus)
        self._cgroup = Cgroup.create(self._settings.cgroup, self._loop_id, share)
        plan.cgroup = plan.add_fd(self._cgroup.open_procs())

    def add_process(self, pid: int) -> bool:
        """Add a process that another program has started; whether there is a cgroup."""
        if self._cgroup is not None:
            self._cgroup.add_process(pid)
        return self._cgroup is not None

    def count_kills_with(self, memory_kills: Callable[[], int]) -> None:
        """Count kills with this function, in a cgroup that another program has made."""
        self._count_kills = memory_kills

    def oom_kills(self) -> int:
        return self._cgroup.oom_kills() if self._cgroup is not None else self._count_kills()

    def oom_note(self, before: int) -> str:
        """The note for the agent where the kernel has killed more than ``before`` processes."""
        if self.oom_kills() == before:
            return ""
        limit = self._settings.limits.memory / GIB
        return f"\n[killed: the sandbox used more than its {limit:.3g} GiB of memory]\n"

    def destroy(self, done: Callable[[], None]) -> None:
        """Kill what is left in the cgroup and remove it; then call ``done``, once."""
        if self._cgroup is None:
            done()
        elif self._destroying is None:
            self._destroying = asyncio.ensure_future(asyncio.to_thread(self._cgroup.destroy))
            self._destroying.add_done_callback(lambda clearing: self._on_destroyed(clearing, done))

    def _on_destroyed(self, clearing: asyncio.Future[None], done: Callable[[], None]) -> None:
        if not clearing.cancelled() and (error := clearing.exception()) is not None:
            log.warning("The cgroup of %s could not be removed: %s", self._loop_id, error)
        done()
