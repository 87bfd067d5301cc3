"""Tries podman on this host: which OCI runtime starts a container, and which limits hold.

A container is really started, with the host's own ``/usr`` as its system, since the image may not
be there yet. crun and runc each fail on hosts where the other works (crun refuses hybrid cgroups,
say), and some hosts allow no cgroup at all; the first combination that works is used.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxIsolation
from loopat_jupyter.sandboxes.podman.cli import Podman, PodmanFailed, find_podman
from loopat_jupyter.sandboxes.podman.limits import controllers_in_force
from loopat_jupyter.sandboxes.podman.tier import (
    FLAGS,
    PodmanTier,
    limit_options,
    sandbox_uid,
    user_options,
)
from loopat_jupyter.sandboxes.runtime.environment import SYSTEM_PATH
from loopat_jupyter.sandboxes.runtime.limits import MEMORY_GAP, enforced_controllers, with_cgroups
from loopat_jupyter.sandboxes.runtime.mounts import SYSTEM_DIRS
from loopat_jupyter.sandboxes.runtime.probe import Attempt, TierProbe
from loopat_jupyter.sandboxes.runtime.seccomp import filter_program
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

PROBE_TIMEOUT = 20.0
OLDEST = (4, 3)
MISSING = (
    "podman is not installed: install your distribution's packages podman, crun (or runc), "
    "uidmap and fuse-overlayfs"
)
OWN_CGROUP_GAP = (
    "processes of other loops count against a loop's limit of processes, since no cgroup limits it"
)
ISOLATION = SandboxIsolation(
    tier="podman",
    isolates=True,
    enforced=(
        "an image and toolchain of its own, read-only",
        "own pid, mount, network, ipc, uts and cgroup namespaces; no nested ones",
        "no capabilities, an unprivileged user, system call filters (podman's and the server's)",
        "no network",
        "only the loop's workdir, home and folders, and a /tmp of its own, are writable",
        "the server's environment, Jupyter's runtime directory and other loops are not there",
        "limits on memory, processes, open files, file size, output and time",
    ),
    gaps=(
        "the kernel is shared with the host",
        "disk space as a whole is not limited, only the size of each file",
        MEMORY_GAP,
        "a Unix socket that lies in a given folder can be talked to, also where the folder is "
        "read-only",
        "the paths of the loop's directories on the host can be read from the list of mounts",
    ),
)
NO_FILTER = "only podman's own system call filter is there on this machine's architecture"
ROOT_GAP = (
    "the server is root, so the container has no user namespace of its own; in a folder that was "
    "given, the host's permissions apply to the sandbox's user"
)


@dataclass(frozen=True, slots=True)
class WorkingCombination:
    """A runtime and a use of cgroups that work together, and the controllers in force."""

    podman: Podman
    cgroups: bool
    controllers: frozenset[str]


def try_podman(settings: SandboxSettings) -> Attempt:
    """Try the tier; see :data:`~loopat_jupyter.sandboxes.runtime.probe.Try`. Takes some 0.3 s."""
    path = find_podman()
    if path is None:
        return Attempt(None, TierProbe("podman", False, "podman was not found", MISSING))
    try:
        check_version(Podman(path))
        found = probe(path, settings)
    except SandboxSpawnFailed as error:
        detail = error.message.rstrip(".")
        return Attempt(None, TierProbe("podman", False, detail, how_to_fix(detail)))
    tier = PodmanTier(
        settings,
        found.podman,
        isolation(found),
        cgroups=found.cgroups,
        controllers=found.controllers,
    )
    how = f" with {found.podman.runtime}" if found.podman.runtime else ""
    detail = f"a container was started and ended{how}"
    return Attempt(tier, TierProbe("podman", True, detail, controllers=found.controllers))


def isolation(found: WorkingCombination) -> SandboxIsolation:
    gaps = list(ISOLATION.gaps)
    if filter_program() is None:
        gaps.append(NO_FILTER)
    if os.geteuid() == 0:
        gaps.append(ROOT_GAP)
        if "pids" not in found.controllers:
            gaps.append(OWN_CGROUP_GAP)
    whole = SandboxIsolation(ISOLATION.tier, ISOLATION.isolates, ISOLATION.enforced, tuple(gaps))
    return with_cgroups(whole, found.controllers)


def check_version(podman: Podman) -> None:
    """Raises ``PodmanFailed`` for a podman that is older than ``OLDEST``."""
    version = podman.call("version", "--format={{.Client.Version}}", timeout=PROBE_TIMEOUT).strip()
    numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    if tuple(numbers) < OLDEST:
        raise PodmanFailed(f"podman {version} is too old, {OLDEST[0]}.{OLDEST[1]} is needed")


def combinations(path: Path, settings: SandboxSettings) -> Iterator[tuple[Podman, bool]]:
    """The combinations to try: podman's own choice of runtime first. Where the server has its own
    cgroup for sandboxes, without one of podman's first."""
    others = [name for name in ("crun", "runc") if shutil.which(name, path=SYSTEM_PATH)]
    for cgroups in (False, True) if settings.cgroup is not None else (True, False):
        for runtime in ("", *others):
            yield Podman(path, runtime), cgroups


def probe(path: Path, settings: SandboxSettings) -> WorkingCombination:
    """The first combination that starts a container. Raises the first one's ``PodmanFailed``."""
    first: PodmanFailed | None = None
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for podman, cgroups in combinations(path, settings):
        try:
            controllers = _try_combination(podman, cgroups, settings)
        except PodmanFailed as error:
            first = first or error
            continue
        return WorkingCombination(podman, cgroups, enforced_controllers(settings) or controllers)
    assert first is not None
    raise first


def _try_combination(podman: Podman, cgroups: bool, settings: SandboxSettings) -> frozenset[str]:
    """Start a container with the flags that loops get, read its limits, and remove it."""
    with tempfile.TemporaryDirectory(prefix="probe-", dir=settings.run_dir) as directory:
        top = Path(directory) / "root"
        name = f"loopat-{Path(directory).name}"
        pid_file = Path(directory) / "pid"
        argv = [*FLAGS, *user_options(sandbox_uid(settings)), *limit_options(settings, cgroups)]
        argv += [f"--name={name}", f"--pidfile={pid_file}", *_host_root(top)]
        try:
            podman.call("create", *argv, "--rootfs", str(top), "60", timeout=PROBE_TIMEOUT)
            podman.call("start", name, timeout=PROBE_TIMEOUT)
            pid = int(pid_file.read_text())
            return frozenset(controllers_in_force(pid))
        except (OSError, ValueError) as error:
            raise PodmanFailed("the container ended as soon as it had started") from error
        finally:
            podman.call("rm", "--force", "--ignore", "--time=0", name, timeout=PROBE_TIMEOUT)


def _host_root(top: Path) -> list[str]:
    """Make a root file system of the host's own system at ``top``; the options that mount it and
    run a program that waits."""
    for name in ("proc", "sys", "dev", "etc", "run", "tmp", "usr"):
        (top / name).mkdir(parents=True)
    options = ["--entrypoint=/usr/bin/sleep", "--mount=type=bind,src=/usr,dst=/usr,ro=true"]
    for name in SYSTEM_DIRS:
        path = Path("/") / name
        if path.is_symlink():
            (top / name).symlink_to(path.readlink())
        elif path.is_dir():
            (top / name).mkdir()
            options.append(f"--mount=type=bind,src={path},dst={path},ro=true")
    return options


def how_to_fix(detail: str) -> str:
    """The most likely remedy for podman's error."""
    if "subuid" in detail or "newuidmap" in detail or "subgid" in detail:
        return (
            "the server's user has no subordinate ids; as root: "
            "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, then as that "
            "user: podman system migrate"
        )
    if "hybrid" in detail:
        return "crun does not work with hybrid cgroups; install your distribution's package runc"
    if "too old" in detail:
        return "install a newer podman"
    return "see that `podman run` works for the server's user on this host"
