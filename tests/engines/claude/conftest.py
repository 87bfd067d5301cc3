"""The engine with its real CLI in a real bubblewrap sandbox; the model is scripted."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.claude import unavailable
from loopat_jupyter.engines.claude.cli_process import CliLimits
from loopat_jupyter.engines.claude.engine import ClaudeEngine
from loopat_jupyter.loops.ports.engine import Turn
from loopat_jupyter.loops.ports.sandbox import Sandbox, SandboxSpec
from loopat_jupyter.sandboxes.bubblewrap.tier import BubblewrapTier, find_bwrap
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings
from tests.support.mock_model import MockModel
from tests.support.server import mock_provider

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def _sdk() -> None:
    reason = unavailable()
    if reason is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture
def home(tmp_path: Path, model: MockModel) -> Path:
    home = tmp_path / "loopat-home"
    home.mkdir(mode=0o700)
    configure(home, mock_provider(model.url, key=KEY))
    return home


def configure(home: Path, config: dict[str, Any]) -> None:
    (home / "config.json").write_text(json.dumps(config))


@pytest.fixture
def spec(home: Path) -> SandboxSpec:
    place = home / "loops" / "loop_1"
    for name in ("workdir", "home"):
        (place / name).mkdir(parents=True)
    return SandboxSpec("loop_1", place / "workdir", place / "home")


@pytest.fixture
def tier(home: Path) -> Iterator[BubblewrapTier]:
    bwrap = find_bwrap()
    assert bwrap is not None
    tier = BubblewrapTier(SandboxSettings(run_dir=home / "run", masks=(home,)), bwrap)
    yield tier
    tier.close()


@pytest.fixture
async def new_sandbox(tier: BubblewrapTier, spec: SandboxSpec) -> AsyncIterator[Any]:
    """Starts sandboxes of the loop; whatever lives at the end is stopped."""
    async with AsyncExitStack() as stack:

        async def start() -> Sandbox:
            sandbox = tier.create(spec)
            await sandbox.start()
            stack.push_async_callback(sandbox.stop)
            return sandbox

        yield start


async def instructions(turn: Turn) -> str:
    return "These are the loop's instructions."


@pytest.fixture
async def new_engine(home: Path) -> AsyncIterator[Callable[..., ClaudeEngine]]:
    async with AsyncExitStack() as stack:

        def make(program: tuple[str, ...] = (), **limits: float) -> ClaudeEngine:
            engine = ClaudeEngine(
                home, instructions, cli_limits=CliLimits(**limits), program=program
            )
            stack.push_async_callback(engine.close)
            return engine

        yield make


@pytest.fixture
def engine(new_engine: Callable[..., ClaudeEngine]) -> ClaudeEngine:
    return new_engine()
