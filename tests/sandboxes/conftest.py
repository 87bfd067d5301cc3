"""Real sandboxes for the tests, and a loopat home for them.

As root, ``tmp_path`` lies below a directory of mode 0700, as a server's files do; so the same
tests also show that a root server's sandbox needs no path that others can reach.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import select
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from loopat_jupyter.loops.ports.sandbox import FolderMount, Sandbox, SandboxSpec, SandboxTier
from loopat_jupyter.sandboxes.none import UnconfinedTier
from loopat_jupyter.sandboxes.runtime.settings import Limits, SandboxSettings
from tests.sandboxes.podman_image import remove_containers
from tests.sandboxes.tiers import TIERS, bubblewrap

SECRET = "planted-7f3d9c"


@dataclass
class LoopatHome:
    """A loopat home with loops in it, and the settings of a server that owns it."""

    top: Path
    folders: tuple[FolderMount, ...] = ()
    limits: Limits = field(default_factory=Limits)
    masks: tuple[Path, ...] = ()
    read_only: tuple[Path, ...] = ()
    user_base: Path | None = None
    made: int = 0

    @property
    def home(self) -> Path:
        return self.top / "loopat-home"

    def settings(self) -> SandboxSettings:
        return SandboxSettings(
            run_dir=self.home / "run",
            limits=self.limits,
            masks=(self.home, *self.masks),
            read_only_paths=self.read_only,
            user_base=self.user_base,
        )

    def limit(self, **limits: int) -> None:
        self.limits = replace(self.limits, **limits)

    def spec(self) -> SandboxSpec:
        self.made += 1
        loop_id = f"loop_{self.made}"
        place = self.home / "loops" / loop_id
        for name in ("workdir", "home"):
            (place / name).mkdir(parents=True)
        self.home.chmod(0o700)
        return SandboxSpec(loop_id, place / "workdir", place / "home", self.folders)


@pytest.fixture
def loopat_home(tmp_path: Path) -> Iterator[LoopatHome]:
    loopat_home = LoopatHome(tmp_path)
    yield loopat_home
    remove_containers(loopat_home.home / "run")


Started = Callable[..., AbstractAsyncContextManager[Sandbox]]


def _starting(
    loopat_home: LoopatHome, make: Callable[[SandboxSettings], SandboxTier]
) -> Iterator[Started]:
    tiers = []

    @asynccontextmanager
    async def started(spec: SandboxSpec | None = None) -> AsyncIterator[Sandbox]:
        tier = make(loopat_home.settings())
        tiers.append(tier)
        sandbox = tier.create(spec or loopat_home.spec())
        await sandbox.start()
        try:
            yield sandbox
        finally:
            await sandbox.stop()

    yield started
    for tier in tiers:
        tier.close()


MakeTier = Callable[[SandboxSettings], SandboxTier]


@pytest.fixture(params=TIERS)
def isolating(request: pytest.FixtureRequest, loopat_home: LoopatHome) -> MakeTier:
    """Each tier that isolates and works here. Where it lacks the restriction that a test is about,
    that must be among its gaps."""
    tried = TIERS[request.param]
    if reason := tried.absent():
        pytest.skip(reason)
    test = getattr(request.node, "originalname", request.node.name)
    if why := tried.not_tried.get(test):
        pytest.skip(f"not tried with {request.param}: {why}")
    if words := tried.gaps.get(test):
        tier = tried.make(loopat_home.settings())
        tier.close()
        assert [gap for gap in tier.isolation.gaps if words in gap]
        pytest.skip(f"{request.param} lacks this restriction, and lists it: {words}")
    return tried.make


@pytest.fixture
def isolated(loopat_home: LoopatHome, isolating: MakeTier) -> Iterator[Started]:
    """A started sandbox of a tier that isolates, with the grounds' settings of that moment."""
    yield from _starting(loopat_home, isolating)


@pytest.fixture
def in_bubblewrap(loopat_home: LoopatHome) -> Iterator[Started]:
    """The strongest tier alone, for tests of what runs inside and not of isolation."""
    yield from _starting(loopat_home, bubblewrap)


@pytest.fixture
def unconfined(loopat_home: LoopatHome) -> Iterator[Started]:
    """The tier ``none`` alone."""
    yield from _starting(loopat_home, UnconfinedTier)


@pytest.fixture(params=[*TIERS, "none"])
def any_tier(request: pytest.FixtureRequest, loopat_home: LoopatHome) -> Iterator[Started]:
    """Every tier, for what must hold in each."""
    if request.param == "none":
        yield from _starting(loopat_home, UnconfinedTier)
        return
    if reason := TIERS[request.param].absent():
        pytest.skip(reason)
    yield from _starting(loopat_home, TIERS[request.param].make)


RUN = f"{secrets.randbelow(10**9):09}"


def unlike(seconds: int) -> str:
    """So many seconds, as only this run sleeps: other runs on this host are not its to count."""
    return f"{seconds}.{RUN}"


def outer_record(loopat_home: LoopatHome) -> Path:
    """The file with the pid of the only sandbox's outer process."""
    run = loopat_home.home / "run"
    [found] = (*run.glob("*.pid"), *run.glob("podman/*.conmon"))
    return found


def outer_process(loopat_home: LoopatHome) -> psutil.Process:
    """Its parent on the host: bwrap, a Landlock monitor, or podman's conmon."""
    return psutil.Process(int(outer_record(loopat_home).read_text().split()[0]))


def own_processes(loopat_home: LoopatHome) -> list[psutil.Process]:
    """All of the only sandbox's processes. conmon is the host's, and cannot be seen inside."""
    outer = outer_process(loopat_home)
    mine = [] if outer_record(loopat_home).suffix == ".conmon" else [outer]
    return [*mine, *outer.children(recursive=True)]


def living(*argv: str) -> list[psutil.Process]:
    """The processes on this host with this command line, which only this run can have started."""
    assert any(RUN in argument for argument in argv)
    return [process for process in psutil.process_iter() if command_line(process) == list(argv)]


def open_pidfds(processes: list[psutil.Process]) -> list[int]:
    found = []
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            found.append(os.pidfd_open(process.pid))
    return found


def all_end(pidfds: list[int]) -> bool:
    """Whether each ends within some seconds; their new parent may reap them later."""
    ended = []
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended.append(bool(poll.poll(10_000)))
        os.close(pidfd)
    return all(ended)


def all_killed(*argv: str) -> bool:
    """Whether no process with this command line lives on; one may be just ending."""
    return all_end(open_pidfds(living(*argv)))


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def mounts_of(process: psutil.Process) -> set[str]:
    """The mounts of this host that are named after the process's container, or are its root.

    Rootless podman has them in a mount namespace of its own, so there are none on the host. A
    namespace that began as a copy of the host's has also the roots of other tests' containers,
    but not as its own root.
    """
    names = [word for word in command_line(process) if len(word) == 64]
    try:
        names += root_layers(str(process.pid)) - root_layers("self")
    except OSError:
        return set()
    return {point for point in mount_points() if any(name in point for name in names)}


def root_layers(pid: str) -> set[str]:
    """The names of the directories that hold the upper layer of a process's root.

    Other mounts of the process do not count: a new mount namespace begins with copies of all mounts
    of the host, those of other programs' containers among them.
    """
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    root = " ".join(line for line in lines if line.split()[4] == "/")
    return {Path(upper).parent.name for upper in re.findall(r"upperdir=([^,\s]+)", root)}


def mount_points() -> set[str]:
    return {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()}


def bind_to_free_port(sock: socket.socket, address: str) -> int:
    """Bind to a free port outside the range from which the kernel hands out ports; the port.

    Other processes of this machine may still connect to a port that they were handed out and that
    has been closed since. A port outside that range can be no such port.
    """
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [port for port in range(10_000, 65_536) if not low <= port <= high]
    while True:
        port = secrets.choice(ports)
        try:
            sock.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return port


def outside(command: str, cwd: Path | None = None) -> str:
    """What the same command gives as the server's own user, with no sandbox."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=30
    )
    return done.stdout + done.stderr


async def inside(sandbox: Sandbox, command: str, timeout: float = 30) -> str:
    return (await sandbox.run(command, timeout=timeout)).output
