"""Agents of ``config.json``: which one serves, and the errors for sections that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.context.acp_agents import SelectedAgent
from loopat_jupyter.context.config_file import ConfigFile
from loopat_jupyter.loops.errors import ConfigError

BOT = {"command": ["bot", "acp"]}


async def choose(home: Path, content: Any) -> SelectedAgent:
    text = content if isinstance(content, str) else json.dumps(content, indent=2)
    (home / "config.json").write_text(text)
    return await ConfigFile(home, {"KEY": "sk-very-secret"}).select_agent()


async def test_the_only_enabled_agent_is_the_one(tmp_path: Path) -> None:
    agents = {"off": {**BOT, "enabled": False}, "bot": BOT}
    assert await choose(tmp_path, {"agents": agents}) == SelectedAgent("bot", ("bot", "acp"))


async def test_everything_an_agent_may_have(tmp_path: Path) -> None:
    env = {"A": "b", "CONFIG": {"model": "x/{model}", "deep": [True, None]}}
    content = {"agent": "b", "agents": {"a": BOT, "b": {**BOT, "env": env, "asks": "ask", "x": 1}}}
    chosen = await choose(tmp_path, content)
    assert chosen.env == (("A", "b"), ("CONFIG", '{"model": "x/{model}", "deep": [true, null]}'))
    assert chosen.asks == "ask"
    assert chosen.uses_model
    assert not (await choose(tmp_path, {"agents": {"bot": BOT}})).uses_model


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, r'names no agent; write "agents": \{"NAME": \{"command"'),
        ({"agents": {"bot": {**BOT, "enabled": False}}}, "names no agent"),
        ({"agents": {"a": BOT, "b": BOT}}, r'several \(a, b\); write "agent": "NAME"'),
        ({"agent": "c", "agents": {"a": BOT}}, r"'c', which agents has not \(a\)"),
        ({"agent": "c"}, r"'c', which agents has not \(none; write one\)"),
        ({"agent": "a", "agents": {"a": {**BOT, "enabled": False}}}, "'a' is disabled"),
    ],
)
async def test_which_agent_is_not_clear(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        await choose(tmp_path, content)


@pytest.mark.parametrize(
    ("agent", "line", "words"),
    [
        ('{"command": "bot acp"}', 4, r"agents\.bot\.command: .*list"),
        ('{"command": []}', 4, r"agents\.bot\.command"),
        ('{"asks": true}', 4, r"agents\.bot\.command: Field required"),
        ('{"command": ["bot"],\n"env": {"A": "b",\n"K": "${KEY}"}}', 6, r"env\.K: .*no secret"),
        ('{"command": ["bot"],\n"env": {"C": {"key":\n"${KEY}"}}}', 5, r"env\.C: .*no secret"),
        ('{"command": ["bot", "${KEY}"]}', 4, r"agents\.bot\.command\.1: .*no secret"),
        ('{"command": ["bot"],\n"env": {"A": 1}}', 5, r"env\.A: .*string"),
        ('{"command": ["bot"],\n"env": {"A=B": "c"}}', 5, r"env"),
        ('{"command": ["bot"],\n"asks": 3}', 5, r"agents\.bot\.asks"),
        ('{"command": ["bot"],\n"asks": ""}', 5, r"agents\.bot\.asks"),
    ],
)
async def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, agent: str, line: int, words: str
) -> None:
    content = f'{{"agents": {{\n"other": {{"command": ["x"]}},\n\n"bot": {agent}}}}}'
    with pytest.raises(ConfigError, match=rf"config\.json, line {line}: .*{words}") as error:
        await choose(tmp_path, content)
    assert "very-secret" not in str(error.value)
    assert "Value error" not in str(error.value)


async def test_agents_do_not_concern_the_choice_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"agents": {"a": BOT, "b": BOT}}))
    assert (await ConfigFile(tmp_path, {}).select_model("default")).provider == "demo"
