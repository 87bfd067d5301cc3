"""The domain with the built-in engine, a scripted model and a sandbox that is a directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopat_jupyter.context.config_file import SelectedModel
from loopat_jupyter.engines.builtin.engine import BuiltinEngine
from loopat_jupyter.engines.models.messages import (
    ModelReply,
    ReplyText,
    ReplyToolCall,
    TokenCounts,
    ToolResults,
)
from loopat_jupyter.engines.models.pool import ModelPool
from loopat_jupyter.engines.models.port import ModelRequest, ModelText, OnDelta
from loopat_jupyter.loops.ports.engine import Turn
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from tests.engines.memory_host import DirectorySandbox
from tests.loops.conftest import Domain, FakeNetwork


class LocalSandbox(DirectorySandbox):
    """A sandbox that is the test's own directory, and starts at once."""

    alive = False

    def __init__(self, workdir: Path) -> None:
        super().__init__(workdir)
        self.network = FakeNetwork()  # type: ignore[assignment]

    async def start(self) -> None:
        self.alive = True

    async def stop(self) -> None:
        self.alive = False


async def _instructions(turn: Turn) -> str:
    return "Be brief."


class OneToolModel:
    """Calls Bash once, then says one word."""

    name = "test/one-tool"
    window = 200_000

    async def complete(self, request: ModelRequest, show: OnDelta) -> ModelReply:
        tokens = TokenCounts(input=10, output=2)
        last = request.messages[-1]
        if isinstance(last, ToolResults):
            await show(ModelText("Done."))
            return ModelReply((ReplyText("Done."),), self.name, tokens)
        call = ReplyToolCall(f"call_{len(request.messages)}", "Bash", {"command": "echo hi"})
        return ModelReply((call,), self.name, tokens)


@pytest.fixture
async def builtin(
    domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Domain]:
    """The domain with the built-in engine."""
    workdir, home = tmp_path / "workdir", tmp_path / "home"
    workdir.mkdir()
    home.mkdir()

    def create(spec: SandboxSpec) -> LocalSandbox:
        return LocalSandbox(workdir)

    domain.tier.create = create  # type: ignore[method-assign, assignment]

    async def model(pool: ModelPool, choice: SelectedModel) -> OneToolModel:
        return OneToolModel()

    monkeypatch.setattr(ModelPool, "model", model)
    engine = BuiltinEngine(home, _instructions)
    domain.engine.script = engine.run
    yield domain
    await engine.close()
