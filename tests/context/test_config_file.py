"""``config.json``: its schema, which model it selects, and the errors for a broken file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.context.config_file import DEMO_MODEL, ConfigFile, SelectedModel, parse_config
from loopat_jupyter.loops.errors import ConfigError

KEY = "sk-very-secret"


def write(home: Path, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (home / "config.json").write_text(text)


def provider(**more: Any) -> dict[str, Any]:
    return {"apiKey": KEY, "models": [{"id": "m1"}, {"id": "m2", "enabled": False}], **more}


async def choose(
    home: Path, content: Any = None, vault: str = "default", **env: str
) -> SelectedModel:
    if content is not None:
        write(home, content)
    return await ConfigFile(home, env).select_model(vault)


@pytest.mark.parametrize(
    "content",
    [None, {}, {"providers": {}}, {"default": "demo/demo"}, {"unknown": 1}],
)
async def test_without_a_provider_it_is_the_demo(tmp_path: Path, content: Any) -> None:
    assert await choose(tmp_path, content) == DEMO_MODEL


async def test_the_demo_may_be_named_beside_other_providers(tmp_path: Path) -> None:
    content = {"default": "demo/demo", "providers": {"p": provider()}}
    assert await choose(tmp_path, content) == DEMO_MODEL


async def test_everything_a_model_may_have(tmp_path: Path) -> None:
    model = {"id": "a/b", "contextWindow": 8000, "maxTokens": 500, "thinking": "high", "x": 1}
    content = {
        "default": "p/a/b",
        "providers": {"p": provider(api="openai", baseUrl="http://h/v1", models=[model], y=2)},
    }
    assert await choose(tmp_path, content) == SelectedModel(
        provider="p",
        model="a/b",
        api="openai",
        base_url="http://h/v1",
        api_key=KEY,
        context_window=8000,
        max_tokens=500,
        thinking="high",
        models=("a/b",),
    )


async def test_defaults(tmp_path: Path) -> None:
    chosen = await choose(
        tmp_path, {"providers": {"off": provider(enabled=False), "p": provider()}}
    )
    assert (chosen.provider, chosen.model, chosen.api) == ("p", "m1", "anthropic")
    assert KEY not in repr(chosen)


async def test_a_provider_without_a_list_of_models_takes_any(tmp_path: Path) -> None:
    content = {"default": "p/whatever", "providers": {"p": {"apiKey": KEY}}}
    assert (await choose(tmp_path, content)).model == "whatever"


async def test_a_server_of_ones_own_needs_no_key(tmp_path: Path) -> None:
    content = {"default": "p/m", "providers": {"p": {"api": "openai", "baseUrl": "http://h/v1"}}}
    assert (await choose(tmp_path, content)).api_key


# ------------------------------------------------------------------ variables


async def test_a_variable_comes_from_the_vault_before_the_environment(tmp_path: Path) -> None:
    envs = tmp_path / "vaults" / "work" / "envs"
    envs.mkdir(parents=True)
    (envs / "KEY").write_text("from-vault\n")
    content = {"providers": {"p": provider(apiKey="${KEY}", baseUrl="http://${HOST}/x")}}
    write(tmp_path, content)
    config = ConfigFile(tmp_path, {"KEY": "from-env", "HOST": "example.org"})
    assert (await config.select_model("work")).api_key == "from-vault"
    assert (await config.select_model("work")).base_url == "http://example.org/x"
    assert (await config.select_model("default")).api_key == "from-env"
    (envs / "KEY").write_text("rotated\n")
    assert (await config.select_model("work")).api_key == "rotated"


async def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    content = {"providers": {"p": provider(apiKey="${MISSING_KEY}")}}
    with pytest.raises(ConfigError, match=r"providers\.p\.apiKey.*MISSING_KEY.*'default'"):
        await choose(tmp_path, content)


@pytest.mark.parametrize("reference", ["${}", "${A B}", "${../x}", "${A-secret}"])
async def test_a_reference_that_is_none(tmp_path: Path, reference: str) -> None:
    with pytest.raises(ConfigError, match="apiKey") as caught:
        await choose(tmp_path, {"providers": {"p": provider(apiKey=reference)}})
    assert "secret" not in caught.value.message


# ------------------------------------------------------------------ broken


@pytest.mark.parametrize(
    ("text", "line", "names"),
    [
        ('{\n  "default": "x/y",\n}', 3, "not valid JSON"),
        ('{"a": 1', 1, "not valid JSON"),
        ("[1]", 1, "JSON object"),
        ("null", 1, "JSON object"),
        ('{\n"default": 5}', 2, "default"),
        ('{"providers":\n {"p":\n {"models": [{"id": "a"},\n {"id": 7}]}}}', 4, "models.1.id"),
        ('{"providers":\n{"p": {\n"api": "gopher"}}}', 3, "providers.p.api"),
        ('{"providers":\n{"p": {\n"enabled": "yes"}}}', 3, "providers.p.enabled"),
        ('{"providers":\n{"p": {"models": [\n{"enabled": true}]}}}', 2, "models.0.id"),
        ('{"providers": {"p": {"models": [{"id": "a",\n"maxTokens": -1}]}}}', 2, "maxTokens"),
        ('{"providers": {"p": {"models": [{"id": "a",\n"thinking": "x"}]}}}', 2, "thinking"),
    ],
)
def test_what_is_broken_is_named_with_its_line(text: str, line: int, names: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode())
    assert caught.value.message.startswith(f"config.json, line {line}: ")
    assert names in caught.value.message
    assert caught.value.event_code == "agent_error"


@pytest.mark.parametrize("data", [b'{"a":\n "\xff"}', b"[" * 100_000])
def test_bytes_that_are_no_json_at_all(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        parse_config(data)


def test_a_byte_order_mark_is_no_problem() -> None:
    assert parse_config(b'\xef\xbb\xbf{"default": "a/b"}').default == "a/b"


def test_no_message_holds_a_value_of_the_file() -> None:
    text = json.dumps({"providers": {"p": {"apiKey": [KEY], "baseUrl": {"a": KEY}}}})
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode())
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"default": "gone/m", "providers": {"p": provider()}}, "'gone'"),
        ({"default": "p/m", "providers": {}}, "'p'"),
        ({"default": "p/none", "providers": {"p": provider()}}, '"id": "none"'),
        ({"default": "p/m2", "providers": {"p": provider()}}, "disabled"),
        ({"default": "p/m1", "providers": {"p": provider(enabled=False)}}, '"enabled": true'),
        ({"default": "p", "providers": {"p": provider()}}, "PROVIDER/MODEL"),
        ({"default": "/m", "providers": {"p": provider()}}, "PROVIDER/MODEL"),
        ({"default": "", "providers": {"p": provider()}}, "PROVIDER/MODEL"),
        ({"providers": {"p": provider(enabled=False)}}, '"default"'),
        ({"providers": {"p": provider(apiKey=None)}}, "apiKey"),
        ({"providers": {"p": provider(baseUrl="ftp://h")}}, "baseUrl"),
        ({"providers": {"p": provider(baseUrl="h:80")}}, "baseUrl"),
    ],
)
async def test_what_names_nothing_says_what_to_write(
    tmp_path: Path, content: Any, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await choose(tmp_path, content)
    assert caught.value.message.startswith("config.json")
    assert says in caught.value.message
    assert KEY not in caught.value.message


async def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        await choose(tmp_path)


async def test_a_huge_file(tmp_path: Path) -> None:
    write(tmp_path, " " * 2**20 + "{}")
    with pytest.raises(ConfigError, match="1 MiB"):
        await choose(tmp_path)


# ------------------------------------------------------------------ changes


async def test_a_change_is_seen_at_the_next_turn_and_an_unchanged_file_is_parsed_once(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"providers": {"p": provider()}})
    config = ConfigFile(tmp_path, {})
    assert (await config.select_model("default")).provider == "p"
    assert config.read() is config.read()
    before = (tmp_path / "config.json").stat()
    # Replaced by one of the same size and time, as an editor might.
    other = tmp_path / "new"
    other.write_text(json.dumps({"providers": {"q": provider()}}))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(tmp_path / "config.json")
    assert (await config.select_model("default")).provider == "q"
    (tmp_path / "config.json").unlink()
    assert await config.select_model("default") == DEMO_MODEL


async def test_a_broken_file_is_left_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, "{broken")
    for _ in range(2):
        with pytest.raises(ConfigError):
            await choose(tmp_path)
    assert (tmp_path / "config.json").read_text() == "{broken"


@pytest.mark.parametrize("content", ["", "  \n"])
async def test_an_empty_file_is_a_broken_one(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.json, line 1: it is empty"):
        await choose(tmp_path, content)
