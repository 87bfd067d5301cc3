"""What every sandbox tier shares: the limits, the settings, and what can never be seen.

The ports themselves (``Sandbox``, ``SandboxTier``, ``SandboxSpec``, ``Isolation``) belong to the
heart and live in :mod:`loopat_jupyter.loops.ports.engine`. A tier gets its :class:`SandboxSettings`
from the extension, which alone knows traits and directories.
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
    """What one loop may use. Sizes are in bytes, times in seconds."""

    processes: int = 512
    memory: int = 4 * GIB
    """For all processes of the loop together."""
    file_size: int = 2 * GIB
    open_files: int = 1024
    """For each process."""
    tmp_size: int = GIB
    """The most that the sandbox's own ``/tmp`` may hold, which is memory; see ``memory_files``."""
    bash_timeout: float = 120.0
    bash_timeout_max: float = 600.0
    """What an engine gives a shell command, and the most the agent may ask for."""
    cpus: float = 0.0
    """Processors' worth of time for all processes of the loop together; 0 is no limit. Holds
    where a cgroup does."""
    file_timeout: float = 60.0
    """For one file operation."""
    output: int = 100 * KIB
    """Of one command's output to the model: its head and its tail."""
    kept_output: int = 10 * MIB
    """Of one command's output in the file the agent can read."""

    @property
    def memory_files(self) -> int:
        """Of ``/tmp`` and of ``/dev/shm`` each: files there count as the loop's memory, and what
        fills it all with files leaves nothing that could be killed to get some back."""
        return min(self.tmp_size, self.memory // 4)


def python_prefixes() -> tuple[Path, ...]:
    """The running Python's environment and the installation under it, outermost first."""
    found = dict.fromkeys(Path(p).resolve() for p in (sys.base_prefix, sys.prefix))
    return tuple(found)


def user_site() -> Path | None:
    """The user base (``~/.local``) where this Python really imports from it."""
    if not site.ENABLE_USER_SITE or not Path(site.getusersitepackages()).is_dir():
        return None
    return Path(site.getuserbase())


@dataclass(frozen=True, slots=True)
class PodmanSettings:
    """Which image the tier ``podman`` runs. Empty: the package's own Containerfile."""

    image: str = ""
    """An image to use as it is; it is neither built nor pulled."""
    containerfile: Path | None = None
    """A Containerfile to build; the folder it lies in is the build's context."""
    base: str = ""
    """The build argument ``BASE``: the image that the package's Containerfile begins from."""


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What the extension tells a tier.

    ``masks`` are host paths whose content must never be visible inside, whatever else is bound:
    the loopat home, Jupyter's runtime, config and data directories. ``run_dir`` holds the
    records that the reaper reads at boot. ``sandbox_uid`` is the user a root server drops to.
    ``cgroup`` is where each sandbox gets a cgroup of its own, where the server has such a place.
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
    """Keeps a line for each request that leaves a sandbox."""
    connection_limiter: ConnectionLimiter = field(default_factory=ConnectionLimiter)
    """Counts the connections of all sandboxes to their brokers."""
