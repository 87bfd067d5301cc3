"""The engine in the other tiers of sandbox that work here."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.claude.engine import ClaudeEngine
from loopat_jupyter.engines.claude.launch import bundled_cli
from loopat_jupyter.loops.errors import TurnFailure
from loopat_jupyter.loops.ports.engine import TurnSuspended
from loopat_jupyter.loops.ports.sandbox import Sandbox, SandboxSpec
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings
from tests.engines.memory_host import MemoryHost, turn_of
from tests.sandboxes.tiers import TIERS
from tests.support.mock_model import MockModel, Text, Tool, bash

pytestmark = pytest.mark.slow(7)

LIBRARIES = ("librt.so.1", "libdl.so.2", "libpthread.so.0")
"""What the CLI needs and the tests' small image has not."""

NewSandbox = Callable[..., Any]


@pytest.fixture
async def inside(home: Path, spec: SandboxSpec) -> AsyncIterator[NewSandbox]:
    """Starts sandboxes of a tier; all of them are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(name: str, *shown: Path) -> Sandbox:
            tried = TIERS[name]
            if reason := tried.absent():
                pytest.skip(reason)
            settings = SandboxSettings(run_dir=home / "run", masks=(home,), read_only_paths=shown)
            tier = tried.make(settings)
            stack.callback(tier.close)
            sandbox = tier.create(spec)
            await sandbox.start()
            stack.push_async_callback(sandbox.stop)
            return sandbox

        yield start


def cli_and_libraries() -> list[Path]:
    libraries = [Path(f"/lib/{os.uname().machine}-linux-gnu/{name}") for name in LIBRARIES]
    return [Path(bundled_cli()).parent, *libraries]


@pytest.mark.parametrize("name", ["landlock", "podman"])
async def test_a_turn_uses_its_tools_and_outlives_its_sandbox_while_it_waits(
    new_engine: Callable[..., ClaudeEngine],
    inside: NewSandbox,
    spec: SandboxSpec,
    model: MockModel,
    name: str,
) -> None:
    shown = cli_and_libraries() if name == "podman" else []
    write = Tool("Write", {"file_path": "made.txt", "content": "made\n"})
    script = model.script([write, bash("cat made.txt > copy.txt")], [Text("ok")])
    box, engine = await inside(name, *shown), new_engine()
    host, turn = MemoryHost(box, ask={"Bash"}), turn_of(script.message())
    with pytest.raises(TurnSuspended):
        await engine.run(turn, host)
    await engine.close_loop("loop_1")
    await box.stop()
    host.box = await inside(name, *shown)
    host.answer(True)
    await new_engine().run(host.resumed(turn), host)
    assert host.visible == "ok"
    assert (spec.workdir / "copy.txt").read_text() == "made\n"
    assert len(script.requests) == 2


async def test_an_image_without_the_cli_is_reported_with_what_to_do(
    engine: ClaudeEngine, inside: NewSandbox, model: MockModel
) -> None:
    script = model.script([Text("never")])
    host = MemoryHost(await inside("podman"))
    with pytest.raises(TurnFailure) as failure:
        await engine.run(turn_of(script.message()), host)
    assert "could not be started" in failure.value.message
    assert "sandbox_read_only_paths" in failure.value.message
    assert script.requests == []
