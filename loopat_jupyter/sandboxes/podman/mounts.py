"""The mounts of a podman container, as its arguments.

The loop's directories and folders are mounted; the system is the image's. podman takes sources by
their paths only, so when the container has started, and before anything of the agent's runs in it,
:func:`verify_mounts` checks that each path led to the directory that was meant.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.launcher.safe_open import open_beneath
from loopat_jupyter.sandboxes.runtime.mounts import (
    HOSTS,
    Bind,
    DataFile,
    MountEntry,
    Tmpfs,
    loop_mount_plan,
)
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings


def mount_options(spec: SandboxSpec, settings: SandboxSettings, files: Path) -> list[str]:
    """podman's ``--mount`` options. ``files`` is the directory for small files to be mounted."""
    entries = [*loop_mount_plan(spec, settings), DataFile(Path("/etc/hosts"), HOSTS)]
    found: list[str] = []
    for entry in entries:
        for option in _options(entry, files):
            found += ["--mount", option]
    return found


def _options(entry: MountEntry, files: Path) -> Iterable[str]:
    dest = str(entry.dest)
    match entry:
        case Bind():
            yield _bind(entry.source, dest, entry.write)
            if not entry.write:  # a read-only mount does not make the mounts below it read-only
                for below in mounts_below(entry.source):
                    yield _bind(below, f"{dest}/{below.relative_to(entry.source)}", False)
        case Tmpfs():
            size = (f"tmpfs-size={entry.size}", f"tmpfs-mode={entry.mode:04o}")
            # Without notmpcopyup, what is to be covered would be copied into the tmpfs.
            yield _option("type=tmpfs", f"dst={dest}", *size, "ro=true", "notmpcopyup")
        case DataFile():
            name = entry.dest.name if entry.content else "empty"
            path = files / name
            if not path.exists():
                path.write_bytes(entry.content)
                path.chmod(0o444)
            yield _bind(path, dest, False)
        case _:
            raise SandboxSpawnFailed("This cannot be shown in a container.")


def _bind(source: Path, dest: str, write: bool) -> str:
    how = [] if write else ["ro=true"]
    return _option("type=bind", f"src={source}", f"dst={dest}", "nosuid", "nodev", *how)


def _option(*fields: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def mounts_below(path: Path) -> list[Path]:
    """The mount points of this host below ``path``."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(
            os.fsdecode(line.split()[4].encode().decode("unicode_escape").encode("latin1"))
        )
        if point != path and point.is_relative_to(path):
            found.append(point)
    return sorted(found)


def verify_mounts(pid: int, spec: SandboxSpec, settings: SandboxSettings) -> None:
    """Check that the started container has the directories that were meant.

    A folder that was replaced by a symlink meanwhile would have led the mount elsewhere. ``pid`` is
    the container's first process. Raises ``SandboxSpawnFailed``.
    """
    top = f"/proc/{pid}/root"
    for entry in loop_mount_plan(spec, settings):
        if not isinstance(entry, Bind):
            continue
        try:
            meant = _identity(entry.source, entry.shared)
            shown = os.stat(f"{top}{entry.dest}")  # noqa: PTH116 - its links are the container's
        except OSError as error:
            raise SandboxSpawnFailed(
                f"A directory of the loop cannot be mounted: {entry.source.name}: {error.strerror}."
            ) from error
        if meant != (shown.st_dev, shown.st_ino):
            raise SandboxSpawnFailed(
                f"The folder {entry.source.name!r} was replaced while the sandbox started. Send "
                "the message again."
            )


def _identity(path: Path, shared: bool) -> tuple[int, int]:
    fd = open_beneath(path) if shared else os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
    finally:
        os.close(fd)
    return found.st_dev, found.st_ino
