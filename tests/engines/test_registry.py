"""Which engine serves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from loopat_jupyter.engines.plugin import EnginePlugin, EngineSetup
from loopat_jupyter.engines.registry import EngineUnavailable, select_engines
from loopat_jupyter.loops.ports.engine import Turn


async def _nothing(turn: Turn) -> str:
    return ""


def setup(home: Path, sandbox: str = "auto", *paths: Path) -> EngineSetup:
    return EngineSetup(home, _nothing, sandbox=sandbox, read_only_paths=paths)


class Toy:
    durable_choices = False

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional engines are there."""
    monkeypatch.setattr(EnginePlugin, "unavailable", lambda plugin: None)
    monkeypatch.setattr(EnginePlugin, "make", lambda plugin, setup: Toy(plugin.name))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No extra is installed."""
    monkeypatch.setattr(
        EnginePlugin,
        "unavailable",
        lambda plugin: None if plugin.name == "builtin" else f"{plugin.name}: install it.",
    )


async def chosen(home: Path, wanted: str = "auto", api: str | None = None) -> tuple[str, str]:
    if api is not None:
        provider = {"api": api, "baseUrl": "http://127.0.0.1:9", "models": [{"id": "m"}]}
        (home / "config.json").write_text(json.dumps({"providers": {"p": provider}}))
    choice = await select_engines(wanted, setup(home)).select()
    return choice.engine.name, choice.why


@pytest.mark.parametrize("name", ["auto", "builtin"])
async def test_builtin_serves_where_nothing_else_is_installed(
    tmp_path: Path, bare: None, name: str
) -> None:
    engine, why = await chosen(tmp_path, name, "anthropic")
    assert engine == "builtin"
    assert why


async def test_auto_takes_claude_where_the_provider_speaks_its_api(
    tmp_path: Path, installed: None
) -> None:
    engine, why = await chosen(tmp_path, api="anthropic")
    assert engine == "claude"
    assert "'p' speaks the Anthropic API" in why


@pytest.mark.parametrize("api", ["openai", None])
async def test_auto_takes_builtin_for_every_other_provider(
    tmp_path: Path, installed: None, api: str | None
) -> None:
    assert (await chosen(tmp_path, api=api))[0] == "builtin"


async def test_auto_takes_builtin_where_the_cli_is_not_in_the_sandboxes_and_says_what_to_do(
    tmp_path: Path, installed: None
) -> None:
    await chosen(tmp_path, api="anthropic")
    inside = select_engines("auto", setup(tmp_path, "podman"))
    choice = await inside.select()
    assert choice.engine.name == "builtin"
    assert "sandbox_read_only_paths" in choice.why
    folder = re.search(r"add (\S+) to", choice.why)
    assert folder is not None
    shown = setup(tmp_path, "podman", Path(folder[1]).parent)
    assert (await select_engines("auto", shown).select()).engine.name == "claude"
    wanted = await select_engines("claude", setup(tmp_path, "podman")).select()
    assert wanted.engine.name == "claude"
    assert "sandbox_read_only_paths" in wanted.why
    for sandbox in ("auto", "bubblewrap", "landlock", "none"):
        there = select_engines("auto", setup(tmp_path, sandbox))
        assert (await there.select()).engine.name == "claude"


async def test_a_change_of_the_provider_counts_at_the_next_choice(
    tmp_path: Path, installed: None
) -> None:
    engines = select_engines("auto", setup(tmp_path))
    assert (await engines.select()).engine.name == "builtin"
    await chosen(tmp_path, api="anthropic")
    assert (await engines.select()).engine.name == "claude"


async def test_a_broken_configuration_is_left_for_builtin_to_report(
    tmp_path: Path, installed: None
) -> None:
    (tmp_path / "config.json").write_text("{")
    assert (await chosen(tmp_path))[0] == "builtin"


@pytest.mark.parametrize("name", ["claude", "acp"])
async def test_what_is_asked_for_serves(tmp_path: Path, installed: None, name: str) -> None:
    assert (await chosen(tmp_path, name, "openai"))[0] == name


@pytest.mark.parametrize("name", ["claude", "acp"])
def test_what_is_not_installed_says_so(tmp_path: Path, bare: None, name: str) -> None:
    with pytest.raises(EngineUnavailable, match=f'{name}: install it. .* "builtin"'):
        select_engines(name, setup(tmp_path))


@pytest.mark.parametrize("name", ["gpt", ""])
def test_what_does_not_exist_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineUnavailable, match="builtin") as caught:
        select_engines(name, setup(tmp_path))
    assert repr(name) in caught.value.message


def test_a_stored_turn_finds_its_engine(tmp_path: Path, installed: None) -> None:
    engines = select_engines("builtin", setup(tmp_path))
    found = engines.named("claude")
    assert found is not None
    assert found.name == "claude"
    assert engines.named("gone") is None


async def test_an_engine_that_fails_to_close_keeps_no_other_from_closing(
    tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[tuple[str, str]] = []

    class Closing(Toy):
        async def close_loop(self, loop_id: str) -> None:
            closed.append((self.name, loop_id))
            if self.name == "claude":
                raise RuntimeError("its process is gone")

        async def close(self) -> None:
            await self.close_loop("all")

    monkeypatch.setattr(EnginePlugin, "make", lambda plugin, setup: Closing(plugin.name))
    engines = select_engines("auto", setup(tmp_path))
    await engines.close_loop("loop_1")
    await engines.close()
    names = ("builtin", "claude", "acp")
    assert closed == [(name, what) for what in ("loop_1", "all") for name in names]
