"""One server at a time owns a home, and a crash gives it free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loopat_jupyter.store.lock import HomeLock, HomeLocked, is_locked, owner_pid
from loopat_jupyter.store.network_fs import file_system_type, is_network_file_system

HOLD = """
import sys; from pathlib import Path; from loopat_jupyter.store.lock import HomeLock
HomeLock(Path(sys.argv[1])).acquire(); print("held", flush=True); sys.stdin.read()
"""


def test_a_second_owner_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert is_locked(tmp_path)
        with pytest.raises(HomeLocked, match=f"pid {owner.pid}") as refused:
            HomeLock(tmp_path).acquire()
        assert refused.value.pid == owner.pid == owner_pid(tmp_path)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert not is_locked(tmp_path)
    lock = HomeLock(tmp_path)
    lock.acquire()
    assert owner_pid(tmp_path) == os.getpid()
    lock.release()
    assert owner_pid(tmp_path) is None


MOUNTS = r"""
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:50 / /home rw - nfs4 server:/home rw
31 30 0:51 / /home/ada/my\040disk rw - tmpfs tmpfs rw
32 31 0:52 / /home/ada/my\040disk rw - cifs //nas/x rw
33 22 0:53 / /größe rw - fuse.sshfs me@there: rw
""".strip()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var", "ext4"),
        ("/home/ada", "nfs4"),
        ("/homes", "ext4"),
        ("/home/ada/my disk/x", "cifs"),
        ("/größe/x", "fuse.sshfs"),
    ],
)
def test_the_innermost_mount_decides_the_file_system(
    tmp_path: Path, path: str, expected: str
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)
    assert file_system_type(Path(path), mountinfo) == expected


def test_where_it_is_not_known_it_is_taken_for_local(tmp_path: Path) -> None:
    assert file_system_type(tmp_path, tmp_path / "nothing") is None
    assert not is_network_file_system(tmp_path)
