"""The tier ``podman``: what is its own, beside what every tier must hold.

Where podman does not work for this user the tests skip and say why; a CI machine must have it.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from loopat_jupyter.loops.errors import SandboxLost, SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import FolderMount, Sandbox, SandboxSpec
from loopat_jupyter.sandboxes.inside import bundle
from loopat_jupyter.sandboxes.podman import mounts
from loopat_jupyter.sandboxes.podman.cli import Podman, PodmanFailed, find_podman, last_line
from loopat_jupyter.sandboxes.podman.containers import reap_containers
from loopat_jupyter.sandboxes.podman.limits import (
    controllers_in_force,
    oom_kill_files,
)
from loopat_jupyter.sandboxes.podman.probe import check_version, how_to_fix
from loopat_jupyter.sandboxes.podman.tier import PodmanTier
from loopat_jupyter.sandboxes.runtime.cgroups import count_oom_kills
from loopat_jupyter.sandboxes.runtime.limits import MEMORY_GAP
from loopat_jupyter.sandboxes.runtime.settings import PodmanSettings, SandboxSettings
from tests.sandboxes.conftest import (
    RUN,
    SECRET,
    LoopatHome,
    all_end,
    inside,
    living,
    mount_points,
    mounts_of,
    open_pidfds,
    unlike,
)
from tests.sandboxes.podman_image import CI, base_image, tier_for, why_not

pytestmark = pytest.mark.slow(35)


@pytest.fixture(scope="module", autouse=True)
def _works() -> None:
    if CI and os.geteuid() == 0 and find_podman() is None:
        pytest.fail("CI must have podman: .ci/run installs it")
    if reason := why_not():
        pytest.skip(f"podman does not work for this user: {reason}")


def processes_of(seconds: str) -> list[psutil.Process]:
    """The living processes on this host that sleep for so long."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one, too
            if process.cmdline() == ["sleep", seconds]:
                found.append(process)
    return found


def begun(seconds: str) -> str:
    """A command that waits inside until a process sleeps for so long."""
    return f"until grep -lz ^{seconds}$ /proc/[0-9]*/cmdline 2>/dev/null; do :; done"


def all_mounts_of(outer: psutil.Process) -> set[str]:
    family = [outer, *outer.children(recursive=True)]
    return {point for process in family for point in mounts_of(process)}


class Ship:
    """A podman tier on the loopat_home; each start takes the grounds' settings of that moment."""

    def __init__(self, loopat_home: LoopatHome) -> None:
        self.loopat_home = loopat_home
        self.probed = tier_for(loopat_home.settings())
        self.image = base_image(self.probed.podman)
        self.tiers: list[PodmanTier] = []

    def settings(self) -> SandboxSettings:
        return replace(self.loopat_home.settings(), podman=PodmanSettings(image=self.image))

    def tier(self, settings: SandboxSettings | None = None) -> PodmanTier:
        tier = PodmanTier(
            settings or self.settings(),
            self.probed.podman,
            self.probed.isolation,
            cgroups=self.probed.cgroups,
            controllers=self.probed.controllers,
        )
        self.tiers.append(tier)
        return tier

    @asynccontextmanager
    async def sailing(self, spec: SandboxSpec | None = None) -> AsyncIterator[Sandbox]:
        sandbox = self.tier().create(spec or self.loopat_home.spec())
        await sandbox.start()
        try:
            yield sandbox
        finally:
            await sandbox.stop()

    def running(self) -> list[str]:
        return self.containers("--filter=status=running")

    def containers(self, *filters: str) -> list[str]:
        label = self.tier().containers.name("").rpartition("-")[2]
        said = self.probed.podman.call(
            "ps", "--all", f"--filter=label=loopat.home={label}", *filters, "--format={{.ID}}"
        )
        return said.split()


@pytest.fixture
def ship(loopat_home: LoopatHome) -> Ship:
    return Ship(loopat_home)


# ------------------------------------------------------------------ what it is


async def test_a_command_runs_in_the_image_without_any_privilege(ship: Ship) -> None:
    async with ship.sailing() as sandbox:
        said = await inside(
            sandbox, "id -u; echo $IN_IMAGE; grep -E '^(Cap|NoNew|Seccomp)' /proc/self/status"
        )
        lines = said.split("\n")
        assert lines[:2] == [str(64999 if os.geteuid() == 0 else 1000), "yes"]
        assert said.count("0000000000000000") == 5
        assert "NoNewPrivs:\t1" in said
        assert "Seccomp_filters:\t2" in said
        assert await inside(sandbox, "id -un; echo $HOME") == "loop\n/home/loop\n"


async def test_no_user_inside_is_root_on_the_host(ship: Ship) -> None:
    async with ship.sailing() as sandbox:
        running = asyncio.create_task(sandbox.run("sleep 951", timeout=60))
        await inside(sandbox, begun("951"))
        [found] = processes_of("951")
        assert found.uids().real == (64999 if os.geteuid() == 0 else os.geteuid())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_only_the_loops_own_directories_are_writable(ship: Ship) -> None:
    async with ship.sailing() as sandbox:
        said = await inside(
            sandbox,
            "for d in / /etc /usr/bin /var /run /dev /proc/sys/kernel /workdir ~ /tmp /dev/shm; do "
            "(touch $d/x) 2>/dev/null && echo $d; done",
        )
        assert said.split() == ["/workdir", "/home/loop", "/tmp", "/dev/shm"]


async def test_the_network_is_an_empty_loopback_that_can_be_listened_on(ship: Ship) -> None:
    async with ship.sailing() as sandbox:
        assert await inside(sandbox, "ls /sys/class/net") == "lo\n"
        listen = (
            "import socket; s = socket.create_server(('localhost', 0)); "
            "socket.create_connection(s.getsockname()); print('talks')"
        )
        assert await inside(sandbox, f'python3 -c "{listen}"') == "talks\n"
        assert "unreachable" in await inside(
            sandbox, "python3 -c \"import socket; socket.create_connection(('192.0.2.1', 80))\""
        )


async def test_the_servers_environment_is_not_there(
    ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", SECRET)
    monkeypatch.setenv("HTTP_PROXY", SECRET)
    async with ship.sailing() as sandbox:
        seen = await inside(sandbox, "env; cat /proc/*/environ")
        assert SECRET not in seen
        assert "Permission denied" in await inside(sandbox, "cat /proc/1/environ")


async def test_the_supervisor_is_pid_1_and_cannot_be_touched(ship: Ship) -> None:
    async with ship.sailing() as sandbox:
        said = await inside(sandbox, "kill -9 1; kill -STOP 1; ls -l /proc/1/fd; unshare -U true")
        assert "Permission denied" in said
        assert await inside(sandbox, "echo lives") == "lives\n"


# ------------------------------------------------------------------ files


async def test_files_outlive_the_container_and_it_is_used_again(ship: Ship) -> None:
    spec = ship.loopat_home.spec()
    ids = []
    for number in range(2):
        async with ship.sailing(spec) as sandbox:
            await inside(sandbox, f"echo {number} >> ~/kept; touch /tmp/gone; mkdir -m 0 shut")
            ids.append(ship.containers())
            if number:
                assert await inside(sandbox, "cat ~/kept") == "0\n1\n"
    assert ids[0] == ids[1]
    assert len(ids[0]) == 1
    assert ship.running() == []


async def test_a_container_whose_arguments_changed_is_made_anew(ship: Ship) -> None:
    spec = ship.loopat_home.spec()
    async with ship.sailing(spec):
        first = ship.containers()
    ship.loopat_home.limits = replace(ship.loopat_home.limits, tmp_size=1 << 20)
    async with ship.sailing(spec) as sandbox:
        assert ship.containers() != first
        assert len(ship.containers()) == 1
        assert "1024" in await inside(sandbox, "df -k /tmp")


async def test_folders_are_read_only_or_writable_as_asked(ship: Ship, tmp_path: Path) -> None:
    names = {"plain": False, "w": True, 'odd, "name": x': False}
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "there").write_text("yes")
        if os.geteuid() == 0:
            os.chown(tmp_path / name, 64999, 64999)
    ship.loopat_home.folders = tuple(
        FolderMount(tmp_path / name, f"f{number}", write)
        for number, (name, write) in enumerate(names.items())
    )
    async with ship.sailing() as sandbox:
        said = await inside(sandbox, "for f in f0 f1 f2; do cat $f/there; touch $f/new; done")
        assert said.startswith("yes")
        assert said.count("yes") == 3
        assert said.count("Read-only file system") == 2
    assert (tmp_path / "w" / "new").exists()


async def test_a_folder_that_holds_the_home_and_the_runtime_directory_shows_neither(
    ship: Ship,
) -> None:
    root = ship.loopat_home.top
    runtime = root / "share/runtime"
    for path in (
        ship.loopat_home.home / "loopat.db",
        runtime / "jpserver-1.json",
        root / "data.csv",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRET)
    root.chmod(0o755)
    ship.loopat_home.masks = (runtime,)
    ship.loopat_home.folders = (FolderMount(root, "all", write=False),)
    async with ship.sailing() as sandbox:
        assert (await inside(sandbox, f"grep -rl {SECRET} all 2>/dev/null")).split() == [
            "all/data.csv"
        ]
        assert "loopat-home" in await inside(sandbox, "ls all")


async def test_a_folder_that_became_a_symlink_is_refused(ship: Ship, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    ship.loopat_home.folders = (FolderMount(tmp_path / "link", "data", write=False),)
    with pytest.raises(SandboxSpawnFailed, match="link"):
        async with ship.sailing():
            pass
    assert ship.running() == []


async def test_another_directory_than_was_meant_is_noticed(
    ship: Ship, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("meant", "other"):
        (tmp_path / name).mkdir()
    ship.loopat_home.folders = (FolderMount(tmp_path / "meant", "data", write=False),)

    def swapped(source: Path, dest: str, write: bool) -> str:
        return shown(Path(str(source).replace("meant", "other")), dest, write)

    shown = mounts._bind
    monkeypatch.setattr(mounts, "_bind", swapped)
    with pytest.raises(SandboxSpawnFailed, match="was replaced"):
        async with ship.sailing():
            pass
    assert ship.running() == []


# ------------------------------------------------------------------ limits


async def test_what_is_said_of_limits_is_so(ship: Ship) -> None:
    held = ship.probed.controllers
    assert (MEMORY_GAP in ship.probed.isolation.gaps) == ("memory" not in held)
    async with ship.sailing() as sandbox:
        running = asyncio.create_task(sandbox.run("sleep 953", timeout=60))
        await inside(sandbox, begun("953"))
        [found] = processes_of("953")
        assert controllers_in_force(found.pid) >= held - {"tree"}
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


FORKS = """
import subprocess
for _ in range(80):
    subprocess.Popen(["sleep", "50"])
"""
"""Not by bash, which tries again for 15 s where it may not fork."""


async def test_a_fork_bomb_is_held(ship: Ship) -> None:
    ship.loopat_home.limit(processes=40)
    async with ship.sailing() as sandbox:
        said = await inside(sandbox, f"python3 -c {shlex.quote(FORKS)} 2>&1")
        assert "Resource temporarily unavailable" in said
    assert ship.running() == []


async def test_memory_is_limited_for_all_processes_together(ship: Ship) -> None:
    ship.loopat_home.limit(memory=192 << 20)
    take = "python3 -c 'x = bytearray(120 << 20); import time; time.sleep(30)'"
    async with ship.sailing() as sandbox:
        done = await sandbox.run(
            f"{take} & {take} & wait -n; kill $(jobs -p); echo one", timeout=30
        )
        assert "one" in done.output


def test_memory_kills_are_read_from_both_kinds_of_cgroup(tmp_path: Path) -> None:
    proc, top = tmp_path / "proc", tmp_path / "cgroup"
    files = {
        "proc/1/cgroup": "0::/a\n",
        "cgroup/a/memory.events": "oom 3\noom_kill 2\noom_group_kill 0\n",
        "proc/2/cgroup": "4:memory:/b\n0::/\n",
        "cgroup/memory/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        "proc/3/cgroup": "4:memory:/none\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {pid: oom_kill_files(pid, proc, top) for pid in (1, 2, 3)}
    assert [count_oom_kills(files) for files in found.values()] == [2, 1, 0]
    found[1][0].unlink()
    assert count_oom_kills(found[1]) == 0


def test_limits_are_read_from_both_kinds_of_cgroup(tmp_path: Path) -> None:
    proc, top = tmp_path / "proc", tmp_path / "cgroup"
    files = {
        "proc/1/cgroup": "0::/a\n",
        "cgroup/a/memory.max": "max\n",
        "cgroup/a/pids.max": "512\n",
        "cgroup/a/cpu.max": "max 100000\n",
        "proc/2/cgroup": "4:memory:/b\n8:pids:/\n1:cpu,cpuacct:/b\n0::/\n",
        "cgroup/memory/b/memory.limit_in_bytes": "1048576\n",
        "cgroup/pids/pids.max": "max\n",
        "cgroup/cpu/b/cpu.cfs_quota_us": "-1\n",
        "proc/3/cgroup": "4:memory:/c\n",
        "cgroup/memory/c/memory.limit_in_bytes": "9223372036854771712\n",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert controllers_in_force(1, proc, top) == {"pids"}
    assert controllers_in_force(2, proc, top) == {"memory"}
    assert controllers_in_force(3, proc, top) == set()


# ------------------------------------------------------------------ lifecycle


async def test_many_start_at_once(ship: Ship) -> None:
    tier = ship.tier()
    sandboxes = [tier.create(ship.loopat_home.spec()) for _ in range(4)]
    await asyncio.gather(*(sandbox.start() for sandbox in sandboxes))
    assert await asyncio.gather(*(inside(s, "echo up") for s in sandboxes)) == ["up\n"] * 4
    await asyncio.gather(*(sandbox.stop() for sandbox in sandboxes))


async def test_a_cancelled_start_leaves_nothing_running(ship: Ship) -> None:
    tier = ship.tier()
    await tier.image.get()
    for steps in (1, 3, 6):
        sandbox = tier.create(ship.loopat_home.spec())
        starting = asyncio.create_task(sandbox.start())
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not sandbox.alive
    assert ship.running() == []


async def test_an_archived_loops_container_is_removed(ship: Ship) -> None:
    tier, spec = ship.tier(), ship.loopat_home.spec()
    sandbox = tier.create(spec)
    await sandbox.start()
    await sandbox.stop()
    assert await tier.retained() == [spec.loop_id]
    await tier.remove(spec.loop_id)
    assert await tier.retained() == []
    await tier.remove(spec.loop_id)


async def test_the_death_of_conmon_ends_everything(ship: Ship) -> None:
    spec = ship.loopat_home.spec()
    async with ship.sailing(spec) as sandbox:
        [pid_file] = (ship.loopat_home.home / "run" / "podman").glob("*.conmon")
        conmon = psutil.Process(int(pid_file.read_text()))
        mounts = all_mounts_of(conmon)
        assert mounts or os.geteuid() != 0
        family = open_pidfds(conmon.children(recursive=True))
        running = asyncio.create_task(sandbox.run("sleep 92", timeout=60))
        conmon.kill()
        with pytest.raises(SandboxLost):
            await running
        await sandbox.wait_closed()
        assert all_end(family)
    assert mounts & mount_points() == set()
    async with ship.sailing(spec) as sandbox:
        assert await inside(sandbox, "echo works") == "works\n"


SERVER = """
import asyncio, sys
from pathlib import Path
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.runtime.settings import PodmanSettings, SandboxSettings
from loopat_jupyter.sandboxes.registry import select_tier

async def main():
    top = Path(sys.argv[1])
    settings = SandboxSettings(run_dir=top / "run", podman=PodmanSettings(image=sys.argv[2]))
    tier = select_tier("podman", settings)
    sandbox = tier.create(SandboxSpec("loop_1", top / "w", top / "h"))
    await sandbox.start()
    await sandbox.run("setsid sleep 93 >/dev/null 2>&1 &", timeout=10)
    print("up", flush=True)
    await sandbox.run("sleep 93", timeout=60)

asyncio.run(main())
"""


def test_kill_9_of_the_server_leaves_no_process_and_no_mount(
    ship: Ship, loopat_home: LoopatHome
) -> None:
    for name in ("w", "h"):
        (loopat_home.home / name).mkdir(parents=True)
    argv = [sys.executable, "-c", SERVER, str(loopat_home.home), ship.image]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert server.stdout is not None
    with server, server.stdout:
        assert server.stdout.readline() == b"up\n"
        conmon = int((loopat_home.home / "run/podman/loop_1.conmon").read_text())
        outer = psutil.Process(conmon)
        pidfds = open_pidfds([outer, *outer.children(recursive=True)])
        mounts = all_mounts_of(outer)
        server.kill()
    assert len(pidfds) >= 3
    assert all_end(pidfds)
    assert ship.running() == []
    assert mounts & mount_points() == set()


async def test_the_reaper_stops_what_runs_of_this_home_and_nothing_else(
    ship: Ship, tmp_path: Path
) -> None:
    spec = ship.loopat_home.spec()
    async with ship.sailing(spec) as sandbox:
        assert reap_containers(tmp_path / "another-home" / "run") == []
        assert await inside(sandbox, "echo lives") == "lives\n"
        [name] = await asyncio.to_thread(reap_containers, ship.loopat_home.home / "run")
        assert spec.loop_id in name
        await sandbox.wait_closed()
    assert await ship.tier().retained() == [spec.loop_id]
    assert reap_containers(ship.loopat_home.home / "run") == []


# ------------------------------------------------------------------ the image


def test_the_supervisors_sources_suit_the_oldest_python() -> None:
    for source in bundle.MODULES.values():
        ast.parse(source.read_text(), feature_version=bundle.OLDEST_PYTHON)


def test_a_python_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle, "OLDEST_PYTHON", (9, 9))
    script = tmp_path / "bundle.py"
    script.write_bytes(bundle.source_bundle.__wrapped__())
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -I -S {script} 3>/dev/null 5>&2"],
        capture_output=True,
        text=True,
    )
    assert done.stderr.startswith("the image's Python is 3.")
    assert "9.9 is needed" in done.stderr


async def test_an_image_that_is_not_here_is_named(ship: Ship) -> None:
    settings = replace(ship.settings(), podman=PodmanSettings(image="localhost/no-such:image"))
    sandbox = ship.tier(settings).create(ship.loopat_home.spec())
    with pytest.raises(SandboxSpawnFailed, match="localhost/no-such:image is not on this host"):
        await sandbox.start()
    await sandbox.stop()


async def test_an_image_without_what_is_needed_says_so_and_leaves_nothing(
    ship: Ship, tmp_path: Path
) -> None:
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    name = "localhost/loopat-test:empty"
    ship.probed.podman.call("import", str(tmp_path / "empty.tar"), name)
    settings = replace(ship.settings(), podman=PodmanSettings(image=name))
    sandbox = ship.tier(settings).create(ship.loopat_home.spec())
    with pytest.raises(SandboxSpawnFailed, match="python3"):
        await sandbox.start()
    assert ship.containers() == []


async def test_the_shipped_containerfile_is_built_once_for_all_that_wait(
    ship: Ship, caplog: pytest.LogCaptureFixture
) -> None:
    base = f"localhost/loopat-test:{RUN}"  # no image was built on this one yet
    ship.probed.podman.call("tag", ship.image, base)
    tier = ship.tier(replace(ship.settings(), podman=PodmanSettings(base=base)))
    caplog.set_level("INFO", "loopat_jupyter")
    sandboxes = [tier.create(ship.loopat_home.spec()) for _ in range(2)]
    await asyncio.gather(*(sandbox.start() for sandbox in sandboxes))
    assert await inside(sandboxes[0], "echo $IN_IMAGE") == "yes\n"
    await asyncio.gather(*(sandbox.stop() for sandbox in sandboxes))
    for loop_id in await tier.retained():
        await tier.remove(loop_id)
    ship.probed.podman.call("rmi", tier.image.name, base)
    assert caplog.text.count("Building the sandbox image") == 1
    assert "podman build: STEP" in caplog.text


async def test_a_build_that_fails_says_why(ship: Ship, tmp_path: Path) -> None:
    file = tmp_path / "build" / "Containerfile"
    file.parent.mkdir()
    file.write_text(f"FROM {ship.image}\nRUN echo no luck today >&2; exit 7\n")
    settings = replace(ship.settings(), podman=PodmanSettings(containerfile=file))
    sandbox = ship.tier(settings).create(ship.loopat_home.spec())
    with pytest.raises(SandboxSpawnFailed, match=r"exit status 7.*podman_image"):
        await sandbox.start()
    file.unlink()
    with pytest.raises(SandboxSpawnFailed, match="podman_containerfile"):
        await ship.tier(settings).image.get()


async def test_a_build_that_is_cancelled_ends(ship: Ship, tmp_path: Path) -> None:
    file = tmp_path / "build" / "Containerfile"
    file.parent.mkdir()
    mark = unlike(957)
    file.write_text(f"FROM {ship.image}\nRUN sleep {mark}\n")
    settings = replace(ship.settings(), podman=PodmanSettings(containerfile=file))
    getting = asyncio.create_task(ship.tier(settings).image.get())
    while not (steps := await asyncio.to_thread(living, "sleep", mark)):
        assert not getting.done()
    mounts = {point for step in steps for point in mounts_of(step)}
    assert mounts or os.geteuid() != 0
    getting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await getting
    assert living("sleep", mark) == []
    assert mounts & mount_points() == set()


# ------------------------------------------------------------------ the program


def test_an_old_podman_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "podman"
    program.write_text("#!/bin/sh\necho 3.4.4\n")
    program.chmod(0o755)
    with pytest.raises(PodmanFailed, match=r"podman 3\.4\.4 is too old"):
        check_version(Podman(program))


def test_a_podman_that_hangs_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "podman"
    program.write_text("#!/bin/sh\nexec sleep 959\n")
    program.chmod(0o755)
    with pytest.raises(PodmanFailed, match="did not answer"):
        Podman(program).call("ps", timeout=0.2)
    assert processes_of("959") == []


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("no subuid ranges found for user", "add-subuids"),
        ("crun: cgroups in hybrid mode not supported", "runc"),
    ],
)
def test_the_remedy_fits_what_podman_said(said: str, remedy: str) -> None:
    noise = 'time="now" level=warning msg="whatever"\n'
    assert last_line(f"{noise}Error: {said}\n{noise}") == said
    assert remedy in how_to_fix(said)
