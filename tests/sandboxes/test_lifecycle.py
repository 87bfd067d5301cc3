"""Start, stop, loss: nothing is ever left, whichever process ends first."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import re
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loopat_jupyter.loops.errors import SandboxLost, SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxTier
from loopat_jupyter.sandboxes.bubblewrap.tier import BubblewrapTier
from loopat_jupyter.sandboxes.inside import protocol
from loopat_jupyter.sandboxes.runtime import sandbox as sandbox_module
from loopat_jupyter.sandboxes.runtime.reaper import reap_leftovers, record_sandbox, start_time
from tests.sandboxes.conftest import (
    LoopatHome,
    MakeTier,
    Started,
    all_end,
    all_killed,
    command_line,
    inside,
    mount_points,
    mounts_of,
    open_pidfds,
    outer_process,
    outer_record,
    unlike,
)
from tests.sandboxes.podman_image import remove_containers
from tests.sandboxes.tiers import TIERS, cycles_of

pytestmark = pytest.mark.slow(60)


def traces(loopat_home: LoopatHome) -> tuple[int, int, list[str], list[str]]:
    """What could be left behind: processes, descriptors, records, and mounts, of this home or of
    the launcher."""
    gc.collect()
    children = len(psutil.Process().children(recursive=True))
    mounts = Path("/proc/mounts").read_text().splitlines()
    records = sorted(p.name for p in loopat_home.settings().run_dir.glob("*"))
    return (
        children,
        len(list(Path("/proc/self/fd").iterdir())),
        records,
        [m for m in mounts if m.startswith("loopat ") or str(loopat_home.top) in m],
    )


async def test_cycles_leave_nothing(loopat_home: LoopatHome, isolating: MakeTier) -> None:
    """No process, mount, socket, file, directory or cgroup of that loop, of whatever it had."""
    tier = isolating(loopat_home.settings())
    cycles = cycles_of(isolating)
    spec = loopat_home.spec()
    mark = unlike(100)
    had: dict[str, set[str]] = {"mounts": set(), "cgroups": set()}

    async def cycle(number: int) -> None:
        sandbox = tier.create(spec)
        await sandbox.start()
        made = f"setsid sleep {mark} >/dev/null 2>&1 & sleep {mark} & echo {number} > file"
        await sandbox.run(made, timeout=20)
        if number < 3:
            for kind, found in belongings(loopat_home).items():
                had[kind] |= found
        await sandbox.stop()

    await cycle(-1)
    before, files = traces(loopat_home), everything_in(loopat_home)
    for number in range(cycles):
        await cycle(number)
    assert traces(loopat_home) == before
    assert everything_in(loopat_home) == files
    assert (spec.workdir / "file").read_text() == f"{cycles - 1}\n"
    assert all_killed("sleep", mark)
    assert had["mounts"] & mount_points() == set()
    assert [path for path in had["cgroups"] if Path(path).exists()] == []
    await tier.remove(spec.loop_id)
    tier.close()


def belongings(loopat_home: LoopatHome) -> dict[str, set[str]]:
    """What the only sandbox has on the host while it lives, by which it could be found again.
    Its sockets are this process's files, or of a network that lives as long as its processes."""
    outer = outer_process(loopat_home)
    family = [outer, *outer.children(recursive=True)]
    return {
        "mounts": {point for process in family for point in mounts_of(process)},
        "cgroups": {path for process in family for path in cgroups_of(process)},
    }


def cgroups_of(process: psutil.Process) -> set[str]:
    """The cgroups that are named after the process's container."""
    names = [word for word in command_line(process) if len(word) == 64]
    try:
        lines = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    except OSError:
        return set()
    own = [line.split(":", 2)[1:] for line in lines if any(name in line for name in names)]
    return {f"/sys/fs/cgroup/{hierarchy}{path}" for hierarchy, path in own}


def everything_in(loopat_home: LoopatHome) -> set[str]:
    """Every file and directory below the loopat_home; podman's own notes are its containers'."""
    found = {str(path.relative_to(loopat_home.top)) for path in loopat_home.top.rglob("*")}
    return {name for name in found if "/run/podman/" not in name}


async def test_many_start_at_once(loopat_home: LoopatHome, isolating: MakeTier) -> None:
    tier = isolating(loopat_home.settings())
    sandboxes = [tier.create(loopat_home.spec()) for _ in range(8)]
    await asyncio.gather(*(sandbox.start() for sandbox in sandboxes))
    said = await asyncio.gather(*(inside(s, "echo $$; ls") for s in sandboxes))
    assert len(said) == 8
    await asyncio.gather(*(sandbox.stop() for sandbox in sandboxes))
    tier.close()
    assert not list((loopat_home.home / "run").glob("*.pid"))


async def test_a_cancelled_start_leaves_nothing(
    loopat_home: LoopatHome, isolating: MakeTier
) -> None:
    tier = isolating(loopat_home.settings())
    warm = tier.create(loopat_home.spec())
    await warm.start()
    await warm.stop()
    before = traces(loopat_home)
    for steps in range(12):
        sandbox = tier.create(loopat_home.spec())
        starting = asyncio.create_task(sandbox.start())
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not sandbox.alive
    assert traces(loopat_home) == before
    tier.close()


async def test_a_sandbox_that_cannot_start_says_why_and_leaves_nothing(
    loopat_home: LoopatHome, tmp_path: Path
) -> None:
    broken = tmp_path / "bin" / "bwrap"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho bwrap: no can do >&2; exit 1\n")
    for directory in (broken, broken.parent):
        directory.chmod(0o755)
    tier = BubblewrapTier(loopat_home.settings(), broken)
    with pytest.raises(SandboxSpawnFailed, match="no can do"):
        tier.probe()
    before = traces(loopat_home)
    sandbox = tier.create(loopat_home.spec())
    with pytest.raises(SandboxSpawnFailed, match="no can do"):
        await sandbox.start()
    assert traces(loopat_home) == before
    tier.close()


async def test_a_server_that_is_short_of_files_says_so_and_recovers(
    loopat_home: LoopatHome, isolating: MakeTier
) -> None:
    tier = isolating(loopat_home.settings())
    warm = tier.create(loopat_home.spec())
    await warm.start()
    await warm.stop()
    before = traces(loopat_home)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    for spare in range(24):  # wherever it runs out
        sandbox = tier.create(loopat_home.spec())
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
        said = None
        try:
            await sandbox.start()
        except SandboxSpawnFailed as error:
            said = error.message
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await sandbox.stop()
        assert said is None or re.search(r"files|memory|podman", said), said
    assert traces(loopat_home) == before
    await warm_again(tier, loopat_home)
    tier.close()


async def warm_again(tier: SandboxTier, loopat_home: LoopatHome) -> None:
    sandbox = tier.create(loopat_home.spec())
    await sandbox.start()
    assert await inside(sandbox, "echo works") == "works\n"
    await sandbox.stop()


async def test_the_death_of_the_outer_process_ends_everything(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    async with isolated() as sandbox:
        await inside(sandbox, "setsid sleep 91 >/dev/null 2>&1 &")
        record_, outer = outer_record(loopat_home), outer_process(loopat_home)
        family = [outer, *outer.children(recursive=True)]
        running = asyncio.create_task(sandbox.run("sleep 92", timeout=60))
        outer.kill()
        with pytest.raises(SandboxLost):
            await running
        await sandbox.wait_closed()
        assert not sandbox.alive
        assert not [p for p in family if p.is_running() and p.status() != "zombie"]
        assert not record_.exists()


# In whole runs on a busy machine a socket of the test process is now and then found here that
# nobody has closed. What it is of is not known yet; the test is about processes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_the_death_of_the_launcher_ends_its_sandboxes_and_the_next_start_works(
    loopat_home: LoopatHome, isolating: MakeTier
) -> None:
    before = set(psutil.Process().children())
    tier = isolating(loopat_home.settings())
    first, second = tier.create(loopat_home.spec()), tier.create(loopat_home.spec())
    await first.start()
    [launcher] = set(psutil.Process().children()) - before
    launcher.kill()
    await first.wait_closed()
    await second.start()
    assert await inside(second, "echo works") == "works\n"
    await second.stop()
    tier.close()
    assert set(psutil.Process().children()) <= before


async def test_a_silent_supervisor_is_ended(
    isolated: Started, monkeypatch: pytest.MonkeyPatch, loopat_home: LoopatHome
) -> None:
    monkeypatch.setattr(sandbox_module, "REPLY_GRACE", 0.3)
    async with isolated() as sandbox:
        [supervisor] = outer_process(loopat_home).children()
        supervisor.suspend()
        with pytest.raises(SandboxLost, match="does not answer"):
            await sandbox.run("true", timeout=0.1)
        await sandbox.wait_closed()
        assert not supervisor.is_running()


async def test_a_cancelled_command_of_a_silent_supervisor_ends_the_sandbox(
    isolated: Started, monkeypatch: pytest.MonkeyPatch, loopat_home: LoopatHome
) -> None:
    monkeypatch.setattr(sandbox_module, "KILL_GRACE", 0.2)
    async with isolated() as sandbox:
        [supervisor] = outer_process(loopat_home).children()
        supervisor.suspend()
        running = asyncio.create_task(sandbox.run("sleep 99", timeout=60))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await sandbox.wait_closed()


SERVER = """
import asyncio, json, sys
from pathlib import Path
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.runtime.settings import PodmanSettings, SandboxSettings
from loopat_jupyter.sandboxes.registry import select_tier

async def main():
    top = Path(sys.argv[1])
    for name in ("w", "h"):
        (top / name).mkdir()
    podman = PodmanSettings(image=sys.argv[3])
    tier = select_tier(sys.argv[2], SandboxSettings(run_dir=top / "run", podman=podman))
    sandbox = tier.create(SandboxSpec("loop_s", top / "w", top / "h"))
    await sandbox.start()
    await sandbox.run("setsid sleep 93 >/dev/null 2>&1 & (setsid sleep 93 &) >/dev/null 2>&1",
                      timeout=10)
    running = asyncio.create_task(sandbox.run("touch begun; sleep 93", timeout=60))
    await sandbox.run("until [ -e begun ]; do sleep 0.01; done", timeout=10)
    print("up", flush=True)
    await running

asyncio.run(main())
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where a server has its run directory."""
    yield tmp_path
    remove_containers(tmp_path / "run")


@pytest.mark.parametrize("tier", [*TIERS, "none"])
def test_kill_9_of_the_server_leaves_no_process(place: Path, tier: str) -> None:
    server = serve(SERVER, place, tier)
    assert server.stdout is not None
    with killed_in_the_end(server), server.stdout:
        assert server.stdout.readline() == b"up\n"
        pidfds = open_pidfds(sleepers_and_all(server, place))
        server.kill()
    assert all_end(pidfds)


@contextlib.contextmanager
def killed_in_the_end(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """A failed test does not wait until the server ends by itself."""
    with server:
        try:
            yield
        finally:
            server.kill()


def sleepers_and_all(server: subprocess.Popen[bytes], place: Path) -> list[psutil.Process]:
    """All processes of the server, when each of the three commands has become its ``sleep``."""
    give_up = time.monotonic() + 10
    while True:
        family = [*psutil.Process(server.pid).children(recursive=True), *watched(place)]
        sleeping = [p for p in family if command_line(p) == ["sleep", "93"]]
        if len(sleeping) == 3:
            return family
        assert time.monotonic() < give_up, family
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(0.01)  # the kernel tells nobody that a process has become another program


def serve(code: str, place: Path, tier: str) -> subprocess.Popen[bytes]:
    """A server of its own that uses the tier; skips where there is none."""
    tried = TIERS.get(tier)
    if tried is not None and (reason := tried.absent()):
        pytest.skip(reason)
    image = tried.image() if tried is not None else ""
    argv = [sys.executable, "-c", code, str(place), tier, image]
    return subprocess.Popen(argv, stdout=subprocess.PIPE)


def watched(place: Path) -> list[psutil.Process]:
    """podman's watchers of this server's containers and what is below them."""
    found = []
    for path in (place / "run/podman").glob("*.conmon"):
        with contextlib.suppress(psutil.NoSuchProcess, ValueError):
            conmon = psutil.Process(int(path.read_text()))
            found += [conmon, *conmon.children(recursive=True)]
    return found


STARTING = """
import asyncio, sys
from pathlib import Path
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.runtime.settings import PodmanSettings, SandboxSettings
from loopat_jupyter.sandboxes.registry import select_tier

async def main():
    top = Path(sys.argv[1])
    podman = PodmanSettings(image=sys.argv[3])
    tier = select_tier(sys.argv[2], SandboxSettings(run_dir=top / "run", podman=podman))
    print("up", flush=True)
    while True:
        sandbox = tier.create(SandboxSpec("loop_s", top, top))
        await sandbox.start()
        await sandbox.stop()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("tier", "times", "within"),
    [(tier, 4, 0.6) if tier == "podman" else (tier, 8, 0.06) for tier in TIERS],
    ids=TIERS,
)
def test_kill_9_in_the_middle_of_a_start_leaves_no_process(
    place: Path, tier: str, times: int, within: float
) -> None:
    seed = secrets.randbelow(10**6)
    print("seed", seed)
    delays = random.Random(seed)
    for _ in range(times):
        server = serve(STARTING, place, tier)
        assert server.stdout is not None
        with server, server.stdout:
            server.stdout.readline()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(delays.uniform(0, within))
            server.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            pidfds = open_pidfds(psutil.Process(server.pid).children())  # a launcher, or podman
            server.kill()
        assert all_end(pidfds)
        assert all_end(open_pidfds(watched(place)))
    assert holders(place) == []


def holders(place: Path) -> list[int]:
    """Processes that have something below ``place`` open, as bwrap has while it starts."""
    found = []
    for fds in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()).startswith(str(place)) for fd in fds.iterdir()):
                found.append(int(fds.parent.name))
    return found


# ------------------------------------------------------------------ the reaper


def test_the_reaper_kills_what_is_recorded_and_only_that(tmp_path: Path) -> None:
    processes = [subprocess.Popen(["sleep", "94"], start_new_session=True) for _ in range(2)]
    left, other = processes
    record_sandbox(tmp_path, "loop_left", left.pid)
    (tmp_path / "loop_reused.pid").write_text(f"{other.pid} 12345\n")
    (tmp_path / "loop_torn.pid").write_text("9")
    (tmp_path / "loop_gone.pid").write_text("4194303 1\n")
    assert reap_leftovers(tmp_path) == [left.pid]
    assert left.wait(5) == -9
    assert other.poll() is None
    assert list(tmp_path.iterdir()) == []
    assert reap_leftovers(tmp_path / "nowhere") == []
    other.kill()
    other.wait(5)
    assert start_time(other.pid) is None


# ------------------------------------------------------------------ a hostile supervisor


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        protocol.encode_frame(protocol.OUT, 99, b"nobody asked"),
        protocol.encode_frame(b"?", 2),
        protocol.encode_frame(protocol.END, 2, b"not json"),
        protocol.encode_frame(protocol.END, 2, b"[]"),
        protocol.encode_frame(protocol.END, 2, b"[" * 50_000),
        protocol.encode_frame(protocol.OUT, 2, b"x" * 50_000),
    ],
    ids=["short", "unknown-id", "unknown-kind", "no-json", "no-object", "deep", "flood"],
)
async def test_a_hostile_supervisor_loses_its_sandbox_and_harms_no_other(packet: bytes) -> None:
    from loopat_jupyter.sandboxes.runtime.channel import Channel, PendingReply

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def lose(why: str) -> None:
        if not lost.done():
            lost.set_result(why)
            channel.fail(SandboxLost(why))
            channel.close()

    channel = Channel(ours, lose)
    channel.request(None, op="configure")
    exchange = PendingReply(100_000)
    channel.request(exchange, op="run")
    theirs.setblocking(False)
    theirs.send(protocol.encode_frame(protocol.READY, 0))
    assert await channel.ready == os.getpid()
    for _ in range(3):
        theirs.send(packet)
    assert "broke the protocol" in await asyncio.wait_for(lost, 5)
    with pytest.raises(SandboxLost):
        await exchange.done
    theirs.close()


async def test_wrong_types_in_an_end_are_ignored() -> None:
    assert sandbox_module._integer(True) is None
    assert sandbox_module._integer("7") is None
    with pytest.raises(Exception, match="no answer"):
        sandbox_module.parse_file_reply(json.dumps([1]).encode(), {})
    with pytest.raises(Exception, match="cut off"):
        sandbox_module.parse_file_reply(b"{", {})
