"""What podman needs for the tests: a small image made from this host's own programs.

No registry is asked. ``BASE`` is imported once for each user and kept; its name carries a hash of
what it is made from, so a later run finds it.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from loopat_jupyter.sandboxes.podman.cli import Podman
from loopat_jupyter.sandboxes.podman.containers import FOLDER, Containers
from loopat_jupyter.sandboxes.podman.probe import try_podman
from loopat_jupyter.sandboxes.podman.tier import PodmanTier
from loopat_jupyter.sandboxes.runtime.probe import Attempt
from loopat_jupyter.sandboxes.runtime.settings import PodmanSettings, SandboxSettings

PROGRAMS = (
    *("bash", "sh", "env", "cat", "ls", "cp", "mv", "rm", "mkdir", "ln", "touch", "head", "tail"),
    *("sleep", "true", "false", "echo", "id", "ps", "kill", "grep", "sed", "awk", "find", "xargs"),
    *("seq", "dd", "stat", "chmod", "chown", "df", "mount", "tr", "sort", "wc", "timeout", "nproc"),
    *("setsid", "getent", "hostname", "date", "uname", "readlink", "tee", "mkfifo", "yes"),
    *("unshare", "pgrep", "du", "cut", "stty", "tty", "nohup"),
)
LEFT_OUT = ("__pycache__", "/test", "idlelib", "site-packages", "dist-packages", "ensurepip")
CI = os.environ.get("CI") == "true"
SECOND_RUN = "LOOPAT_TESTS_SECOND_RUN"
"""Set in the run that repeats the tests as an ordinary user."""


def libraries(path: str) -> list[str]:
    said = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    return re.findall(r"(/\S+)", said)


def sources() -> Iterator[tuple[str, str]]:
    """Files of this host and where they lie in the image."""
    for name in PROGRAMS:
        found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin")
        if found is not None:
            yield found, f"/usr/bin/{name}"
    python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    prefix = os.path.realpath(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield python, "/usr/bin/python3"
    yield python, "/usr/bin/python"
    standard = f"{prefix}/lib/{version}"
    for directory, _, files in os.walk(standard):
        if not any(part in directory for part in LEFT_OUT):
            for name in files:
                path = f"{directory}/{name}"
                yield path, f"/usr/lib/{version}/{os.path.relpath(path, standard)}"


def root_file_system(target: Path) -> None:
    seen: set[str] = set()
    with tarfile.open(target, "w") as tar:

        def add(source: str, dest: str) -> None:
            if dest not in seen:
                seen.add(dest)
                tar.add(os.path.realpath(source), dest.lstrip("/"))

        for source, dest in sources():
            add(source, dest)
            if dest.startswith("/usr/bin/") or ".so" in dest:
                for library in libraries(source):
                    add(library, library)
        for name, to in (("bin", "usr/bin"), ("sbin", "usr/bin")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, to
            tar.addfile(entry)
        for name, text in (("etc/passwd", "root:x:0:0:root:/:/bin/sh\n"), ("etc/group", "")):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
        for name in ("tmp", "proc", "sys", "dev", "workdir", "home/loop", "run"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)


@cache
def base_image(podman: Podman) -> str:
    """The name of the base image, which is there when this returns."""
    made_from = hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode()).hexdigest()
    name = f"localhost/loopat-test:{made_from[:12]}"
    known = podman.call("images", "--quiet", name).strip()
    if not known:
        with tempfile.TemporaryDirectory() as place:
            archive = Path(place) / "root.tar"
            root_file_system(archive)
            podman.call("import", "--change=ENV IN_IMAGE=yes", str(archive), name)
    return name


@cache
def _attempt() -> Attempt:
    with tempfile.TemporaryDirectory(prefix="loopat-podman-") as place:
        return try_podman(SandboxSettings(run_dir=Path(place)))


@cache
def why_not() -> str | None:
    """Why podman does not work for this user here; ``None`` where it does."""
    attempt = _attempt()
    return None if attempt.tier else f"{attempt.probe.detail} ({attempt.probe.fix})"


def why_not_tried() -> str | None:
    """Why the acceptance suite is not run over podman; ``None`` where it is."""
    if SECOND_RUN in os.environ:
        return "podman takes seconds for each start as an ordinary user; test_podman tries it there"
    return why_not()


def tier_for(settings: SandboxSettings) -> PodmanTier:
    """The tier with these settings, as the one probe of this run found it; it must work."""
    attempt = _attempt()
    assert isinstance(attempt.tier, PodmanTier), attempt.probe
    return PodmanTier(
        settings,
        attempt.tier.podman,
        attempt.tier.isolation,
        cgroups=attempt.tier.cgroups,
        controllers=attempt.tier.controllers,
    )


def image() -> str:
    """The base image, for a server that is to use it."""
    attempt = _attempt()
    assert isinstance(attempt.tier, PodmanTier), attempt.probe
    return base_image(attempt.tier.podman)


def tier_with_base(settings: SandboxSettings) -> PodmanTier:
    """The same, with the base image as its image."""
    return tier_for(replace(settings, podman=PodmanSettings(image=image())))


def remove_containers(run_dir: Path) -> None:
    """Remove all containers of the home with this run directory; nothing where it had none."""
    if (run_dir / FOLDER).is_dir():
        containers = Containers(tier_for(SandboxSettings(run_dir=run_dir)).podman, run_dir)
        for loop_id in containers.loops_with_container():
            containers.remove(loop_id)
