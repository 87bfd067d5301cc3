"""cgroup v2: when a part of the tree is ours, and what a cgroup then does for a sandbox.

Detection is tried on directories that mimic the kernel's. What a cgroup does is tried on the
kernel's own: in the delegated subtree where there is one, else, as root, in a directory made for
the test, which limits nothing but ends what is in it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loopat_jupyter.loops.ports.sandbox import CommandResult, Sandbox, SandboxSpec
from loopat_jupyter.sandboxes.bubblewrap.tier import BubblewrapTier, find_bwrap
from loopat_jupyter.sandboxes.none import UnconfinedTier
from loopat_jupyter.sandboxes.runtime import cgroups
from loopat_jupyter.sandboxes.runtime.cgroups import (
    Cgroup,
    CgroupLimits,
    NotDelegated,
    ServerCgroup,
    claim,
    find_delegation,
)
from loopat_jupyter.sandboxes.runtime.limits import (
    MEMORY_GAP,
    PROCESSES_GAP,
    STRAY_GAP,
    limits_in_force,
)
from tests.sandboxes.conftest import LoopatHome, inside

pytestmark = pytest.mark.slow(6)

CYCLES = 200
MOUNTED = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


# ------------------------------------------------------------------ detection


def host(top: Path, own: str, controllers: str = "cpu memory pids", mounted: str = MOUNTED) -> Path:
    """A host's files as a server in the cgroup ``own`` sees them; that cgroup's directory."""
    (top / "proc/self").mkdir(parents=True)
    (top / "proc/self/mountinfo").write_text(f"22 1 0:21 / /proc rw - proc proc rw\n{mounted}")
    (top / "proc/self/cgroup").write_text(f"4:memory:/x\n0::{own}\n")
    directory = top / "sys/fs/cgroup" / own.lstrip("/")
    directory.mkdir(parents=True)
    (directory / "cgroup.controllers").write_text(controllers)
    for name in ("procs", "subtree_control", "type"):
        (directory / f"cgroup.{name}").write_text("")
    return directory


def mark(directory: Path) -> None:
    try:
        os.setxattr(directory, "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system has no extended attributes")


def test_a_service_that_systemd_delegates_is_found(tmp_path: Path) -> None:
    directory = host(tmp_path, "/user.slice/jupyter.service")
    mark(directory)
    found = find_delegation(root=tmp_path)
    assert found.path.resolve() == directory
    assert found.controllers == ("memory", "pids", "cpu")
    assert found.holds_server


def test_the_top_of_a_containers_own_tree_is_found(tmp_path: Path) -> None:
    directory = host(tmp_path, "/", "pids hugetlb")
    found = find_delegation(root=tmp_path)
    assert found.path.resolve() == directory
    assert found.controllers == ("pids",)


def test_the_top_of_the_hosts_tree_is_not_ours(tmp_path: Path) -> None:
    (host(tmp_path, "/") / "cgroup.type").unlink()
    with pytest.raises(NotDelegated, match="not delegated"):
        find_delegation(root=tmp_path)


def test_a_cgroup_that_has_another_manager_is_left_alone(tmp_path: Path) -> None:
    host(tmp_path, "/user.slice/session-3.scope")
    with pytest.raises(NotDelegated, match="not delegated"):
        find_delegation(root=tmp_path)


def test_a_server_in_the_leaf_that_an_earlier_one_made_uses_the_directory_above(
    tmp_path: Path,
) -> None:
    above = host(tmp_path, "/jupyter.service")
    leaf = above / cgroups.SERVER_LEAF
    leaf.mkdir()
    (tmp_path / "proc/self/cgroup").write_text(f"0::/jupyter.service/{cgroups.SERVER_LEAF}\n")
    found = find_delegation(root=tmp_path)
    assert found.path.resolve() == above
    assert not found.holds_server


@pytest.mark.parametrize(
    ("own", "controllers", "mounted", "why"),
    [
        ("/", "cpu memory", "", "no cgroup version 2"),
        ("/", "hugetlb rdma", MOUNTED, "none of the controllers"),
        ("/", "memory", MOUNTED.replace(" / /sys", " /below /sys"), "not visible"),
    ],
)
def test_why_there_is_none_is_said(
    tmp_path: Path, own: str, controllers: str, mounted: str, why: str
) -> None:
    host(tmp_path, own, controllers, mounted)
    with pytest.raises(NotDelegated, match=why):
        find_delegation(root=tmp_path)


def test_the_administrator_names_a_place_or_turns_it_off(tmp_path: Path) -> None:
    directory = host(tmp_path, "/jobs")
    assert find_delegation(str(directory)).controllers == ("memory", "pids", "cpu")
    assert not find_delegation(str(directory)).holds_server
    with pytest.raises(NotDelegated, match="no such cgroup"):
        find_delegation(str(tmp_path / "nowhere"))
    with pytest.raises(NotDelegated, match="turned off"):
        find_delegation("none", root=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_cgroup_that_cannot_be_written_is_not_ours(tmp_path: Path) -> None:
    directory = host(tmp_path, "/")
    (directory / "cgroup.subtree_control").chmod(0o444)
    with pytest.raises(NotDelegated, match="may not write"):
        find_delegation(root=tmp_path)


def test_what_is_written_for_a_share(tmp_path: Path) -> None:
    share = CgroupLimits(memory=1 << 30, processes=99, cpus=1.5)
    cgroup = Cgroup.create(ServerCgroup(tmp_path, ("memory", "pids", "cpu")), "loop_x", share)
    written = {file.name: file.read_text() for file in cgroup.path.iterdir()}
    assert written == {
        "memory.max": str(1 << 30),
        "pids.max": "99",
        "cpu.max": "150000 100000",
    }
    some = Cgroup.create(ServerCgroup(tmp_path, ("pids",)), "loop_x", replace(share, cpus=0))
    assert [file.name for file in some.path.iterdir()] == ["pids.max"]
    (cgroup.path / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert cgroup.oom_kills() == 2
    assert some.oom_kills() == 0


def test_what_holds_each_limit_is_said() -> None:
    def held(tier: str, *controllers: str) -> list[str]:
        return [line.by for line in limits_in_force(tier, controllers)][:4]

    assert held("bubblewrap") == ["watcher", "rlimit", "rlimit", "not at all"]
    assert held("none") == ["watcher", "rlimit", "not at all", "not at all"]
    assert held("none", "memory", "pids", "cpu") == ["cgroup", "rlimit", "cgroup", "cgroup"]


def test_gaps_that_a_cgroup_closes_are_not_listed(loopat_home: LoopatHome, tmp_path: Path) -> None:
    settings = replace(loopat_home.settings(), cgroup=ServerCgroup(tmp_path, ("memory", "pids")))
    with_them, without = UnconfinedTier(settings), UnconfinedTier(loopat_home.settings())
    assert {PROCESSES_GAP, STRAY_GAP} <= set(without.isolation.gaps)
    assert not {PROCESSES_GAP, STRAY_GAP, MEMORY_GAP} & set(with_them.isolation.gaps)
    assert "memory, the number of processes" in with_them.isolation.enforced[-1]
    for tier in (with_them, without):
        tier.close()


# ------------------------------------------------------------------ the kernel's own


@pytest.fixture
def division() -> Iterator[ServerCgroup]:
    try:
        made = claim(find_delegation(os.environ.get("LOOPAT_TEST_CGROUP", "auto")))
    except NotDelegated as error:
        made = _own_directory(str(error))
    yield made
    made.release()
    assert not made.path.exists()


def _own_directory(why_not: str) -> ServerCgroup:
    try:
        mount, _ = cgroups._find_mount(Path("/"))
        path = mount / f"loopat-test-{os.getpid()}"
        path.mkdir()
    except (NotDelegated, OSError):
        pytest.skip(f"no cgroup for this user here: {why_not}")
    return ServerCgroup(path, ())


@pytest.fixture
def limiting(division: ServerCgroup) -> ServerCgroup:
    if not {"memory", "pids"} <= set(division.controllers):
        pytest.skip(f"no delegated subtree with memory and pids here; {division.controllers}")
    return division


def groups(division: ServerCgroup) -> list[Path]:
    return [path for path in division.path.iterdir() if path.is_dir()]


@asynccontextmanager
async def started(
    tier: BubblewrapTier | UnconfinedTier, spec: SandboxSpec
) -> AsyncIterator[Sandbox]:
    sandbox = tier.create(spec)
    await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.stop()
        tier.close()


def isolated(loopat_home: LoopatHome, division: ServerCgroup) -> BubblewrapTier:
    bwrap = find_bwrap()
    assert bwrap is not None
    return BubblewrapTier(replace(loopat_home.settings(), cgroup=division), bwrap)


def members(group: Path) -> list[int]:
    return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]


async def test_everything_of_a_sandbox_is_in_its_cgroup(
    loopat_home: LoopatHome, division: ServerCgroup
) -> None:
    async with started(isolated(loopat_home, division), loopat_home.spec()) as sandbox:
        [group] = groups(division)
        assert len(members(group)) == 2  # bwrap, and the supervisor
        await sandbox.run("sleep 961 & setsid sleep 962 >/dev/null 2>&1 &", timeout=10)
        pids = members(group)
        assert len(pids) == 4
    assert groups(division) == []
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_process_that_leaves_its_parents_ends_with_the_cgroup(
    loopat_home: LoopatHome, division: ServerCgroup
) -> None:
    tier = UnconfinedTier(replace(loopat_home.settings(), cgroup=division))
    async with started(tier, loopat_home.spec()) as sandbox:
        await sandbox.run("(setsid sleep 963 >/dev/null 2>&1 &)", timeout=10)
        [group] = groups(division)
        stray = members(group)
        [note] = loopat_home.settings().run_dir.glob("*.pid")
        supervisor = int(note.read_text().split()[0])
        stray.remove(supervisor)
        psutil.Process(supervisor).kill()
        await sandbox.wait_closed()
    assert stray
    assert not any(psutil.pid_exists(pid) for pid in stray)
    assert groups(division) == []


async def test_cycles_leave_no_cgroup(loopat_home: LoopatHome, division: ServerCgroup) -> None:
    tier, spec = isolated(loopat_home, division), loopat_home.spec()
    for _ in range(CYCLES):
        sandbox = tier.create(spec)
        await sandbox.start()
        await sandbox.stop()
    assert groups(division) == []
    tier.close()


def test_what_a_dead_server_left_is_killed_and_removed(division: ServerCgroup) -> None:
    left = division.path / "loopat-4194303-1"
    (left / "loop_x-1").mkdir(parents=True)
    living = division.path / f"loopat-{os.getpid()}-{cgroups.start_time(os.getpid())}"
    living.mkdir()
    sleeper = psutil.Popen(["sleep", "964"])
    Cgroup(left / "loop_x-1").add_process(sleeper.pid)
    assert cgroups.reap_stale(division.path) == [left.name]
    assert sleeper.wait(5) == -9
    assert groups(division) == [living]
    living.rmdir()


async def test_a_cgroup_limits_processes_and_memory(
    loopat_home: LoopatHome, limiting: ServerCgroup
) -> None:
    loopat_home.limit(processes=40, memory=192 << 20)
    async with started(isolated(loopat_home, limiting), loopat_home.spec()) as sandbox:
        [group] = groups(limiting)
        assert (group / "pids.max").read_text() == "44\n"
        take = "python3 -c 'x = bytearray(120 << 20); import time; time.sleep(30)'"
        done = await sandbox.run(f"{take} & {take} & wait -n; kill $(jobs -p)", timeout=60)
        assert "used more than its 0.188 GiB" in done.output
        full = "for f in /tmp/x /dev/shm/x; do head -c 300M /dev/zero > $f; done"
        assert (await inside(sandbox, full)).count("No space left on device") == 2
        assert await sandbox.run("echo lives", timeout=10) == CommandResult(0, "lives\n")
