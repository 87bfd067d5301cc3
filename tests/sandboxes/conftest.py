"""Real sandboxes for the tests, and the ground they stand on.

As root, ``tmp_path`` lies below a directory of mode 0700, as a server's files do; so the same
tests also show that a root server's sandbox needs no path that others can reach.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from loopat_jupyter.loops.ports import FolderMount, Sandbox, SandboxSpec
from loopat_jupyter.sandboxes.base import Limits, SandboxSettings
from loopat_jupyter.sandboxes.bubblewrap import BubblewrapTier, find_bwrap
from loopat_jupyter.sandboxes.unconfined import UnconfinedTier

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
def grounds(tmp_path: Path) -> Grounds:
    return Grounds(tmp_path)


Started = Callable[..., AbstractAsyncContextManager[Sandbox]]


def _starting(grounds: Grounds, make: Callable[[SandboxSettings], object]) -> Iterator[Started]:
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


@pytest.fixture
def walled(grounds: Grounds) -> Iterator[Started]:
    """A started bubblewrap sandbox, with the grounds' settings of that moment."""
    bwrap = find_bwrap()
    assert bwrap is not None
    yield from _starting(grounds, lambda settings: BubblewrapTier(settings, bwrap))


@pytest.fixture
def unwalled(grounds: Grounds) -> Iterator[Started]:
    """The same of tier ``none``."""
    yield from _starting(grounds, UnconfinedTier)


@pytest.fixture(params=["walled", "unwalled"])
def any_tier(request: pytest.FixtureRequest) -> Started:
    """Both tiers, for what must hold in every one."""
    return request.getfixturevalue(request.param)


def outside(command: str, cwd: Path | None = None) -> str:
    """What the same command gives as the server's own user, with no sandbox."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=30
    )
    return done.stdout + done.stderr


async def inside(sandbox: Sandbox, command: str, timeout: float = 30) -> str:
    return (await sandbox.run(command, timeout=timeout)).output
