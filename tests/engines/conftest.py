from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopat_jupyter.engines.builtin import BuiltinEngine
from loopat_jupyter.loops.ports import Turn

from .memory_host import DirectorySandbox, MemoryHost


async def _instructions(turn: Turn) -> str:
    return f"You work in {turn.loop_id}."


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    (tmp_path / "workdir").mkdir()
    return tmp_path / "workdir"


@pytest.fixture
async def host(workdir: Path) -> MemoryHost:
    return MemoryHost(DirectorySandbox(workdir))


@pytest.fixture
async def engine(home: Path) -> AsyncIterator[BuiltinEngine]:
    engine = BuiltinEngine(home, _instructions)
    yield engine
    await engine.close()
