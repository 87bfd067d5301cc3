"""A server that is root and may not mount, as in an ordinary container.

Its run is a process of its own, which gives the capability up for good. As in
:mod:`tests.sandboxes.test_unprivileged`, what lies below closed directories is shown to it first.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.landlock.isolation import UNMAPPED
from loopat_jupyter.sandboxes.landlock.probe import try_landlock
from loopat_jupyter.sandboxes.landlock.tier import CAP_SYS_ADMIN, may_mount
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings
from tests.sandboxes.test_unprivileged import REPOSITORY, make_reachable, needed
from tests.sandboxes.tiers import TIERS

PR_CAPBSET_DROP, CAPABILITY_VERSION = 24, 0x20080522
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="about a server that is root"),
    pytest.mark.skipif(TIERS["landlock"].absent() is not None, reason="there is no Landlock here"),
]


def run(mode: int) -> dict[str, object]:
    """The output of the run where the directory that holds the home has this mode."""
    with tempfile.TemporaryDirectory(prefix="loopat-root-", dir="/var/tmp") as place:
        Path(place).chmod(mode)
        done = subprocess.run(
            [sys.executable, "-m", "tests.sandboxes.test_root_without_mounts", place],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_sandbox_works_where_its_user_may_pass() -> None:
    found = run(0o711)
    assert found["isolates"] is True
    assert found["said"] == "64999\ngiven\nPermission denied\n"
    assert UNMAPPED in found["gaps"]  # type: ignore[operator]
    assert found["home"] == 0o710


def test_it_is_refused_with_a_remedy_where_its_user_may_not_pass() -> None:
    found = run(0o700)
    assert found["isolates"] is False
    assert "LOOPAT_HOME" in str(found["detail"])
    assert "/" not in str(found["detail"])


def give_up_mounting() -> None:
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) == 0
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    sets = ctypes.create_string_buffer(24)
    assert libc.capget(header, sets) == 0
    kept = [value & ~(1 << CAP_SYS_ADMIN) for value in struct.unpack("=3I", sets.raw[:12])]
    assert libc.capset(header, struct.pack("=3I", *kept) + sets.raw[12:]) == 0
    assert not may_mount()


async def try_it(place: Path) -> dict[str, object]:
    home = place / "home"
    workdir, own = home / "loops/one/workdir", home / "loops/one/home"
    for directory in (workdir, own, home / "run"):
        directory.mkdir(parents=True)
    home.chmod(0o700)
    (home / "secret").write_text("secret")
    (workdir / "file").write_text("given\n")
    attempt = try_landlock(SandboxSettings(run_dir=home / "run", masks=(home,)))
    if attempt.tier is None:
        return {"isolates": False, "detail": attempt.probe.detail}
    sandbox = attempt.tier.create(SandboxSpec("one", workdir, own))
    try:
        await sandbox.start()
        attack = f"id -u; cat file; cat {home}/secret 2>&1 | grep -o 'Permission denied'"
        said = (await sandbox.run(attack, timeout=10)).output
    except SandboxSpawnFailed as error:
        return {"isolates": False, "detail": error.message}
    finally:
        await sandbox.stop()
        attempt.tier.close()
    isolation = attempt.tier.isolation
    mode = home.stat().st_mode & 0o777
    return {"isolates": True, "said": said, "gaps": isolation.gaps, "home": mode}


if __name__ == "__main__":
    make_reachable(needed())
    give_up_mounting()
    print(json.dumps(asyncio.run(try_it(Path(sys.argv[1])))))
