"""The settings of all sandbox tiers: limits, paths, and what must never be visible inside.

The ports (``Sandbox``, ``SandboxTier``, ``SandboxSpec``, ``SandboxIsolation``) belong to the domain
and are defined in :mod:`loopat_jupyter.loops.ports.sandbox`. A tier gets its
:class:`SandboxSettings` from the extension; the settings that a deployment writes (traits) are
declared in :mod:`loopat_jupyter.config`.
"""

from __future__ import annotations

import site
import sys
from dataclasses import dataclass, field
from pathlib import Path

from loopat_jupyter.sandboxes.proxy.audit import Audit, discard
from loopat_jupyter.sandboxes.proxy.connection_limit import ConnectionLimiter
from loopat_jupyter.sandboxes.runtime.cgroups import ServerCgroup

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one loop. Sizes are in bytes, times in seconds."""

    processes: int = 512
    memory: int = 4 * GIB
    """For all processes of the loop together."""
    file_size: int = 2 * GIB
    open_files: int = 1024
    """For each process."""
    tmp_size: int = GIB
    """Of the sandbox's own ``/tmp``, which is in memory; see ``memory_files``."""
    bash_timeout: float = 120.0
    bash_timeout_max: float = 600.0
    """The default for a shell command, and the most that the agent may set."""
    cpus: float = 0.0
    """Processors for all processes of the loop together; 0 is no limit. Enforced by a cgroup, where
    there is one."""
    file_timeout: float = 60.0
    """For one file operation."""
    output: int = 100 * KIB
    """Of one command's output that the model gets: its head and its tail."""
    kept_output: int = 10 * MIB
    """Of one command's output in the file that the agent can read."""

    @property
    def memory_files(self) -> int:
        """The size of ``/tmp`` and of ``/dev/shm`` each. Files there count as the loop's memory; if
        they could fill all of it, no process that is killed would free any."""
        return min(self.tmp_size, self.memory // 4)


def python_prefixes() -> tuple[Path, ...]:
    """The prefixes of the running Python: its installation, then its virtual environment."""
    found = dict.fromkeys(Path(p).resolve() for p in (sys.base_prefix, sys.prefix))
    return tuple(found)


def user_site() -> Path | None:
    """The user base (``~/.local``), if this Python imports from it."""
    if not site.ENABLE_USER_SITE or not Path(site.getusersitepackages()).is_dir():
        return None
    return Path(site.getuserbase())


@dataclass(frozen=True, slots=True)
class PodmanSettings:
    """Which image the tier ``podman`` runs. Empty: one built from the package's Containerfile."""

    image: str = ""
    """An image to use as it is; it is neither built nor pulled."""
    containerfile: Path | None = None
    """A Containerfile to build; the folder it lies in is the build's context."""
    base: str = ""
    """The build argument ``BASE``: the image that the package's Containerfile begins from."""


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """The settings that a tier gets from the extension.

    ``masks`` are host paths whose content must never be visible inside, whatever else is mounted:
    the loopat home, Jupyter's runtime, config and data directories. ``run_dir`` holds the records
    that the reaper reads when the server starts. ``sandbox_uid`` is the user that a root server's
    sandboxes run as. ``cgroup`` is the server's own cgroup, below which each sandbox gets one.
    """

    run_dir: Path
    limits: Limits = field(default_factory=Limits)
    masks: tuple[Path, ...] = ()
    read_only_paths: tuple[Path, ...] = ()
    sandbox_uid: int = 64999
    prefixes: tuple[Path, ...] = field(default_factory=python_prefixes)
    user_base: Path | None = field(default_factory=user_site)
    cgroup: ServerCgroup | None = None
    podman: PodmanSettings = field(default_factory=PodmanSettings)
    audit: Audit = discard
    """Records each request to a sandbox's egress proxy."""
    connection_limiter: ConnectionLimiter = field(default_factory=ConnectionLimiter)
    """Counts the connections of all sandboxes to their egress proxies."""
