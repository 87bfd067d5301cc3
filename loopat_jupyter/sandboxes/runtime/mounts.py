"""The mounts of a sandbox, as a plan that each tier carries out in its own way.

The plan is an allow-list: nothing of the host is visible but what is named here, and what a setting
masks is covered again wherever a bind mount would show it. ``/etc`` is never bound as a whole: it
holds the host's users, keys and settings.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

WORKDIR, HOME = Path("/workdir"), Path("/home/loop")
USER, UID = "loop", 1000
SYSTEM_DIRS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC_SHOWN = (
    "alternatives", "fonts", "ld.so.cache", "localtime", "mime.types", "os-release",
    "pki/ca-trust", "pki/tls/certs", "protocols", "services", "ssl/certs", "ssl/openssl.cnf",
    "terminfo", "timezone",
)  # fmt: skip
HOSTS = b"127.0.0.1 localhost\n::1 localhost\n"
VAR_TMP = Path("/var/tmp")  # noqa: S108
MASK_SIZE = 64 * 1024
COPIED_MAX = 32 * 1024
"""A file of up to this many bytes is copied, which takes less time than a mount."""
SYSTEM_MASKS = (Path("/usr/local/etc/jupyter"), Path("/usr/etc/jupyter"))


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path, bind-mounted at ``dest``.

    ``shared``: a folder of the server's user. No symlink is followed on the way to it, and where
    the server is root it is mounted idmapped, so that root's files belong to the sandbox's user.
    """

    source: Path
    dest: Path
    write: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty file system in memory, of ``size`` bytes."""

    dest: Path
    size: int
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class DataFile:
    """A small read-only file. ``over``: it covers one that a bind mount shows."""

    dest: Path
    content: bytes
    over: bool = False


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symlink, which need not lead to anything."""

    dest: Path
    target: str


MountEntry = Bind | Tmpfs | DataFile | Symlink


def mount_plan(spec: SandboxSpec, settings: SandboxSettings) -> list[MountEntry]:
    """All mounts of a sandbox that shows the host's system, parents before what lies in them."""
    host, covers, masks = host_mounts(settings)
    shown = [c.entry for c in covers if os.path.lexists(c.mask)]
    return sort_by_depth([*host, *shown, *_loop_mounts(spec, masks)])


def loop_mount_plan(spec: SandboxSpec, settings: SandboxSettings) -> list[MountEntry]:
    """The mounts of a sandbox whose system is an image's: the loop's directories, and what the
    administrator adds."""
    masks = _masks(settings)
    added = [
        Bind(path.resolve(), path.absolute()) for path in settings.read_only_paths if path.exists()
    ]
    added = [bind for bind in added if not is_masked(bind.source, masks)]
    covers = [cover for bind in added for cover in _mask_covers(bind, masks)]
    shown = [c.entry for c in covers if os.path.lexists(c.mask)]
    return sort_by_depth([*added, *shown, *_loop_mounts(spec, masks)])


def _loop_mounts(spec: SandboxSpec, masks: Iterable[Path]) -> list[MountEntry]:
    own = [Bind(spec.workdir, WORKDIR, write=True), Bind(spec.home, HOME, write=True)]
    folders = [Bind(f.source, WORKDIR / f.name, f.write, shared=True) for f in spec.folders]
    folders = [folder for folder in folders if not is_masked(folder.source, masks)]
    covers = [cover for folder in folders for cover in _mask_covers(folder, masks)]
    return [*own, *folders, *(c.entry for c in covers if os.path.lexists(c.mask))]


def sort_by_depth(entries: list[MountEntry]) -> list[MountEntry]:
    return sorted(entries, key=lambda entry: len(entry.dest.parts))


def _masks(settings: SandboxSettings) -> list[Path]:
    return [m.resolve() for m in (*settings.masks, *_jupyter_config(settings), *SYSTEM_MASKS)]


@dataclass(frozen=True, slots=True)
class MaskCover:
    """A masked path, and where a bind mount would show it. It is covered where it exists when the
    sandbox starts."""

    mask: Path
    dest: Path

    @property
    def entry(self) -> MountEntry:
        if self.mask.is_dir():
            return Tmpfs(self.dest, MASK_SIZE, 0o555)
        return DataFile(self.dest, b"", over=True)


@cache
def host_mounts(
    settings: SandboxSettings,
) -> tuple[tuple[MountEntry, ...], tuple[MaskCover, ...], tuple[Path, ...]]:
    """What is the same for every loop: the mounts of the host's system, covers, and the masks."""
    masks = _masks(settings)
    entries: list[MountEntry] = [*_system_mounts(), *_etc_mounts()]
    entries += _python_mounts(settings, entries)
    for path in settings.read_only_paths:
        if path.exists() and not _covered(path.resolve(), entries):
            entries.append(Bind(path.resolve(), path.absolute()))
    kept = [e for e in entries if not (isinstance(e, Bind) and _hidden(e, masks, settings))]
    if not any(entry.dest.is_relative_to(VAR_TMP) for entry in kept):
        kept.append(Symlink(VAR_TMP, "/tmp"))  # noqa: S108
    kept.append(Tmpfs(Path("/tmp"), settings.limits.memory_files, 0o1777))  # noqa: S108
    covers = [c for e in kept if isinstance(e, Bind) for c in _mask_covers(e, masks)]
    return tuple(kept), tuple(covers), tuple(masks)


def _system_mounts() -> Iterable[MountEntry]:
    yield Bind(Path("/usr"), Path("/usr"))
    for name in SYSTEM_DIRS:
        path = Path("/") / name
        if path.is_symlink():
            yield Symlink(path, str(path.readlink()))
        elif path.is_dir():
            yield Bind(path, path)


def _etc_mounts() -> Iterable[MountEntry]:
    account = f"{USER}:x:{UID}:{UID}:{USER}:{HOME}:/bin/bash\n"
    nobody = "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    yield DataFile(Path("/etc/passwd"), f"root:x:0:0:root:/:/bin/false\n{account}{nobody}".encode())
    yield DataFile(Path("/etc/group"), f"root:x:0:\n{USER}:x:{UID}:\nnogroup:x:65534:\n".encode())
    yield DataFile(Path("/etc/hosts"), HOSTS)
    yield DataFile(Path("/etc/resolv.conf"), b"")
    yield DataFile(Path("/etc/nsswitch.conf"), b"passwd: files\ngroup: files\nhosts: files dns\n")
    for name in ETC_SHOWN:
        path = Path("/etc") / name
        if path.is_symlink() and path.resolve().is_relative_to("/usr"):
            yield Symlink(path, str(path.resolve()))
        elif path.is_file() and path.stat().st_size <= COPIED_MAX:
            yield DataFile(path, path.read_bytes())
        elif path.exists():
            yield Bind(path.resolve(), path)


def _python_mounts(settings: SandboxSettings, seen: list[MountEntry]) -> Iterable[MountEntry]:
    found: list[MountEntry] = []
    for prefix in settings.prefixes:
        if not _covered(prefix, [*seen, *found]):
            found.append(Bind(prefix, prefix))
    if settings.user_base is not None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        for part in (Path("bin"), Path("lib") / version):
            path = settings.user_base / part
            if path.is_dir() and not _covered(path, [*seen, *found]):
                found.append(Bind(path.resolve(), path))
    return found


def _jupyter_config(settings: SandboxSettings) -> Iterable[Path]:
    for prefix in settings.prefixes:
        yield prefix / "etc" / "jupyter"
        yield prefix / "share" / "jupyter" / "runtime"


def _covered(path: Path, entries: list[MountEntry]) -> bool:
    return any(
        isinstance(e, Bind) and e.source == e.dest and path.is_relative_to(e.dest) for e in entries
    )


def is_masked(path: Path, masks: Iterable[Path]) -> bool:
    """Whether a path is a masked one or lies below one."""
    return any(path.is_relative_to(mask) for mask in masks)


def _hidden(bind: Bind, masks: Iterable[Path], settings: SandboxSettings) -> bool:
    """Whether all of it lies below a mask. A Python prefix may lie there and is shown."""
    return bind.source not in settings.prefixes and is_masked(bind.source, masks)


def _mask_covers(bind: Bind, masks: Iterable[Path]) -> list[MaskCover]:
    return [
        MaskCover(mask, bind.dest / mask.relative_to(bind.source))
        for mask in masks
        if mask != bind.source and mask.is_relative_to(bind.source)
    ]
