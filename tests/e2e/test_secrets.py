"""A planted key is looked for wherever it could be after a whole turn: nowhere but in its vault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.caller import Caller, Recorder
from tests.support.mock_model import MockModel, Text, Tool
from tests.support.server import JupyterServer, mock_provider

KEY = "planted-key-5b1c07d2e9"
LOOK = "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; true"


def engines() -> list[object]:
    from loopat_jupyter.engines.claude import unavailable

    absent = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
    return ["builtin", pytest.param("claude", marks=absent)]


@pytest.mark.parametrize("engine", engines())
async def test_a_model_key_is_in_its_vault_and_nowhere_else(
    new_server: Callable[..., JupyterServer],
    model: MockModel,
    recorder: Recorder,
    engine: str,
) -> None:
    server = new_server(
        model=mock_provider(model.url, key="${THE_KEY}"),
        options=[f"--LoopatExtension.engine={engine}"],
    )
    vault = server.home / "vaults" / "default" / "envs"
    vault.mkdir(parents=True)
    (vault / "THE_KEY").write_text(KEY)
    script = model.script([Tool("Bash", {"command": LOOK})], [Text("I looked.")])
    server.start()
    async with Caller(server, recorder, headers=server.session) as caller:
        loop_id = await caller.loop()
        await caller.turn(loop_id, script.message(), mode="auto")
        seen = processes()
        events = await caller.get(f"/loops/{loop_id}/messages")
    assert any(KEY in value for value in script.requests[0].headers.values())
    assert KEY not in str(script.requests[-1].body)
    assert [line for line in seen if KEY in line] == []
    assert KEY not in events.text
    assert KEY not in server.log
    holding = [path for path in files(server.directory) if KEY.encode() in path.read_bytes()]
    assert holding == [vault / "THE_KEY"]


def processes() -> list[str]:
    """Arguments and environment of every process of this machine that can be looked at."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        found.append(" ".join(process.info["cmdline"] or ()))
        found += [f"{k}={v}" for k, v in (process.info["environ"] or {}).items()]
    return found


def files(top: Path) -> list[Path]:
    return [path for path in top.rglob("*") if path.is_file() and not path.is_symlink()]
