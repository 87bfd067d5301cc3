"""Real sandboxes for the tests, and the ground they stand on.

As root, ``tmp_path`` lies below a directory of mode 0700, as a server's files do; so the same
tests also show that a root server's sandbox needs no path that others can reach.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
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
from tests.sandboxes.podman_ground import remove_containers
from tests.sandboxes.tiers import TIERS, bubblewrap

SECRET = "planted-7f3d9c"


@dataclass
class Grounds:
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
def grounds(tmp_path: Path) -> Iterator[Grounds]:
    grounds = Grounds(tmp_path)
    yield grounds
    remove_containers(grounds.home / "run")


Started = Callable[..., AbstractAsyncContextManager[Sandbox]]


def _starting(
    grounds: Grounds, make: Callable[[SandboxSettings], SandboxTier]
) -> Iterator[Started]:
    tiers = []

    @asynccontextmanager
    async def started(spec: SandboxSpec | None = None) -> AsyncIterator[Sandbox]:
        tier = make(grounds.settings())
        tiers.append(tier)
        sandbox = tier.create(spec or grounds.spec())
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
def isolating(request: pytest.FixtureRequest, grounds: Grounds) -> MakeTier:
    """Each tier that isolates and works here. Where it lacks the wall that the test is about,
    that must be among its gaps."""
    tried = TIERS[request.param]
    if reason := tried.absent():
        pytest.skip(reason)
    test = getattr(request.node, "originalname", request.node.name)
    if why := tried.not_tried.get(test):
        pytest.skip(f"not tried with {request.param}: {why}")
    if words := tried.gaps.get(test):
        tier = tried.make(grounds.settings())
        tier.close()
        assert [gap for gap in tier.isolation.gaps if words in gap]
        pytest.skip(f"{request.param} lacks this wall, and lists it: {words}")
    return tried.make


@pytest.fixture
def walled(grounds: Grounds, isolating: MakeTier) -> Iterator[Started]:
    """A started sandbox of a tier that isolates, with the grounds' settings of that moment."""
    yield from _starting(grounds, isolating)


@pytest.fixture
def in_bubblewrap(grounds: Grounds) -> Iterator[Started]:
    """The strongest tier alone, for tests of what runs inside and not of the walls."""
    yield from _starting(grounds, bubblewrap)


@pytest.fixture
def unwalled(grounds: Grounds) -> Iterator[Started]:
    """The tier ``none`` alone."""
    yield from _starting(grounds, UnconfinedTier)


@pytest.fixture(params=[*TIERS, "none"])
def any_tier(request: pytest.FixtureRequest, grounds: Grounds) -> Iterator[Started]:
    """Every tier, for what must hold in each."""
    if request.param == "none":
        yield from _starting(grounds, UnconfinedTier)
        return
    if reason := TIERS[request.param].absent():
        pytest.skip(reason)
    yield from _starting(grounds, TIERS[request.param].make)


RUN = f"{secrets.randbelow(10**9):09}"


def unlike(seconds: int) -> str:
    """So many seconds, as only this run sleeps: other runs on this host are not its to count."""
    return f"{seconds}.{RUN}"


def outer_record(grounds: Grounds) -> Path:
    """The file that says which process is the outer one of the only sandbox."""
    run = grounds.home / "run"
    [found] = (*run.glob("*.pid"), *run.glob("podman/*.conmon"))
    return found


def outer_process(grounds: Grounds) -> psutil.Process:
    """Its parent on the host: bwrap, a guard, or podman's conmon."""
    return psutil.Process(int(outer_record(grounds).read_text().split()[0]))


def own_processes(grounds: Grounds) -> list[psutil.Process]:
    """All of the only sandbox's processes. conmon is the host's, and cannot be seen inside."""
    outer = outer_process(grounds)
    mine = [] if outer_record(grounds).suffix == ".conmon" else [outer]
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
    """Whether each ends within some seconds; whoever inherits them may reap them later."""
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

    Rootless podman has them in a mount namespace of its own, so there are none on the host.
    """
    names = [word for word in command_line(process) if len(word) == 64]
    space = Path(f"/proc/{process.pid}/ns/mnt")
    try:
        if space.readlink() != Path("/proc/self/ns/mnt").readlink():  # else: everybody's mounts
            lines = Path(f"/proc/{process.pid}/mountinfo").read_text()
            names += [Path(upper).parent.name for upper in re.findall(r"upperdir=([^,\s]+)", lines)]
    except OSError:
        return set()
    return {point for point in mount_points() if any(name in point for name in names)}


def mount_points() -> set[str]:
    return {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()}


def outside(command: str, cwd: Path | None = None) -> str:
    """What the same command gives as the server's own user, with no sandbox."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=30
    )
    return done.stdout + done.stderr


async def inside(sandbox: Sandbox, command: str, timeout: float = 30) -> str:
    return (await sandbox.run(command, timeout=timeout)).output
