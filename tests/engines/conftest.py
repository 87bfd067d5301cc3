from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.builtin.engine import BuiltinEngine, EngineLimits
from loopat_jupyter.engines.builtin.model_call import ModelRetryPolicy
from loopat_jupyter.loops.ports.engine import Turn

from . import mock_provider as mock
from .memory_host import DirectorySandbox, MemoryHost
from .mock_provider import MockProvider

KEY = "sk-secret-0123456789"


async def _instructions(turn: Turn) -> str:
    return "Be brief."


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


@pytest.fixture
async def provider() -> AsyncIterator[MockProvider]:
    async with mock.serving() as provider:
        yield provider


def configure(home: Path, provider: MockProvider, api: str, **model: Any) -> None:
    section = {
        "api": api,
        "baseUrl": provider.url + ("/v1" if api == "openai" else ""),
        "apiKey": KEY,
        "models": [{"id": "m", **model}],
    }
    text = json.dumps({"default": "p/m", "providers": {"p": section}})
    (home / "config.json").write_text(text)


@pytest.fixture
async def quick(home: Path) -> AsyncIterator[BuiltinEngine]:
    """An engine that hardly waits between attempts."""
    limits = EngineLimits(retry_policy=ModelRetryPolicy(attempts=3, first_wait=0.001, total=30))
    engine = BuiltinEngine(home, _instructions, limits)
    yield engine
    await engine.close()
