"""What profiles allow: their files, presets, and the machine's own package configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.context import network
from loopat_jupyter.context.network import loop_egress
from loopat_jupyter.loops.errors import ConfigError


def allow(home: Path, profile: str, *entries: str) -> None:
    write(home, profile, json.dumps({"allow": entries}))


def write(home: Path, profile: str, text: str | bytes) -> None:
    path = home / "profiles" / profile / "network.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def allowed(home: Path, *profiles: str, **presets: list[str]) -> list[str]:
    return [str(pattern) for pattern in loop_egress(home, profiles, lambda: presets).allowed]


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No package configuration but what the test writes."""
    monkeypatch.setattr(network, "PIP_FILES", ("~/.config/pip/pip.conf", str(tmp_path / "pip")))
    monkeypatch.setattr(network, "NPM_FILES", ("~/.npmrc",))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "npm_config_registry",
                 "NPM_CONFIG_REGISTRY", "NPM_CONFIG_USERCONFIG"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


# ------------------------------------------------------------------ profiles


def test_nothing_is_allowed_by_default(tmp_path: Path) -> None:
    assert allowed(tmp_path) == []
    (tmp_path / "profiles" / "p").mkdir(parents=True)
    assert allowed(tmp_path, "p", "absent") == []
    write(tmp_path, "p", "{}")
    assert allowed(tmp_path, "p") == []


def test_the_profiles_of_a_loop_add_up_in_their_order(tmp_path: Path) -> None:
    allow(tmp_path, "a", "Example.ORG", "*.example.org:8443")
    allow(tmp_path, "b", "example.org", "bücher.example", "[2001:db8::1]:443")
    allow(tmp_path, "c", "never.example")
    assert allowed(tmp_path, "a", "b") == [
        "example.org",
        "*.example.org:8443",
        "xn--bcher-kva.example",
        "[2001:db8::1]:443",
    ]


def test_a_change_counts_the_next_time(tmp_path: Path) -> None:
    allow(tmp_path, "a", "one.example")
    assert allowed(tmp_path, "a") == ["one.example"]
    allow(tmp_path, "a", "two.example")
    assert allowed(tmp_path, "a") == ["two.example"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1"),
        ('{"allow":\n["a.example"\n"b.example"]}', "line 3"),
        ("", "line 1"),
        ('["a.example"]', '{"allow"'),
        ('{"allow": "a.example"}', '{"allow"'),
        ('{"allow": [1]}', '{"allow"'),
        ('{"allow": null}', '{"allow"'),
        ("null", '{"allow"'),
        (b'{"allow": ["\xff"]}', "cannot be read"),
        ("[" * 200_000, "cannot be read"),
        ('{"x": ' + "9" * 5000 + "}", "cannot be read"),
        ('{"allow": ["http://a.example/"]}', "'http://a.example/' names no destination"),
        ('{"allow": ["*.example"]}', "at least two parts"),
        ('{"allow": ["a_b.example"]}', "no valid name"),
        ('{"allow": ["a.example:99999"]}', "port"),
        ('{"allow": ["0177.0.0.1"]}', "no plain IPv4"),
        ('{"allow": ["nothing-like-it"]}', "no preset 'nothing-like-it'"),
        ('{"allow": ["*"]}', "no preset '*'"),
    ],
)
def test_a_broken_file_allows_nothing_and_says_where(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    write(tmp_path, "good", '{"allow": ["a.example"]}')
    write(tmp_path, "p", text)
    with pytest.raises(ConfigError) as broken:
        allowed(tmp_path, "good", "p")
    assert broken.value.message.startswith("profiles/p/network.json")
    assert said in broken.value.message
    assert str(tmp_path) not in broken.value.message


def test_a_file_that_is_too_large_is_broken(tmp_path: Path) -> None:
    write(tmp_path, "p", json.dumps({"allow": ["a.example"] * 50_000}))
    with pytest.raises(ConfigError):
        allowed(tmp_path, "p")


# ------------------------------------------------------------------ presets


def test_an_administrators_preset_is_named_and_comes_first(tmp_path: Path) -> None:
    allow(tmp_path, "p", "ours", "git-hosts")
    found = allowed(tmp_path, "p", **{"ours": ["a.example:22"], "git-hosts": ["git.example"]})
    assert found == ["a.example:22", "git.example"]


def test_a_broken_preset_names_the_file_it_is_in(tmp_path: Path) -> None:
    allow(tmp_path, "p", "ours")
    with pytest.raises(ConfigError, match=r"config\.json, network\.presets\.ours.*'a_b'"):
        allowed(tmp_path, "p", ours=["a_b"])


def test_an_unknown_preset_lists_those_there_are(tmp_path: Path) -> None:
    allow(tmp_path, "p", "pypi")
    with pytest.raises(ConfigError, match="git-hosts, npm-packages, ours, python-packages"):
        allowed(tmp_path, "p", ours=[])


def test_the_presets_of_config_json_are_not_read_without_need(tmp_path: Path) -> None:
    allow(tmp_path, "p", "a.example")

    def broken() -> Any:
        raise AssertionError

    assert loop_egress(tmp_path, ["p"], broken).allowed


def test_git_hosts(tmp_path: Path) -> None:
    allow(tmp_path, "p", "git-hosts")
    found = allowed(tmp_path, "p")
    assert len(found) > 3
    assert all("." in name for name in found)


def test_python_packages_are_where_pip_is_told_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = tmp_path / ".config" / "pip" / "pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text(
        "[global]\nindex-url = https://user:secret@mirror.example/simple\n"
        "extra-index-url =\n  http://other.example:8080/simple\n  https://[2001:db8::1]/x\n"
        "[install]\nindex-url = https://install.example\n"
    )
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://env.example https://env-2.example/x")
    allow(tmp_path, "p", "python-packages")
    assert allowed(tmp_path, "p") == [
        "env.example:443",
        "env-2.example:443",
        "mirror.example:443",
        "other.example:8080",
        "[2001:db8::1]:443",
        "install.example:443",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "no section = at all", "[global]\nindex-url", "[global]\nindex-url = not a url",
        "[global]\nindex-url = https://[bad/simple", "[global]\nindex-url = https://h:port/x",
        "[global]\nindex-url = file:///srv", "[global]\nindex-url = https://a_b.example/x",
        "[global]\nindex-url = %(x)s", "\x00\x01",
    ],
)  # fmt: skip
def test_a_pip_configuration_that_names_no_host_leaves_pips_own_default(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "pip").write_text(text)
    allow(tmp_path, "p", "python-packages")
    found = allowed(tmp_path, "p")
    assert len(found) == 2
    assert all(name.endswith(":443") for name in found)


def test_npm_packages_are_where_npm_is_told_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".npmrc").write_text(
        "# a comment\nregistry=https://npm.example/\n@ours:registry = http://scoped.example:4873\n"
        "//npm.example/:_authToken=secret\nregistry\nproxy=http://proxy.example\n"
    )
    monkeypatch.setenv("npm_config_registry", "https://env.example/path")
    allow(tmp_path, "p", "npm-packages")
    assert allowed(tmp_path, "p") == ["env.example:443", "npm.example:443", "scoped.example:4873"]


def test_npm_packages_without_a_configuration_are_nothing(tmp_path: Path) -> None:
    allow(tmp_path, "p", "npm-packages")
    assert allowed(tmp_path, "p") == []


def test_a_machine_without_home_has_no_configuration_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "expanduser", _no_home)
    allow(tmp_path, "p", "npm-packages", "python-packages")
    assert len(allowed(tmp_path, "p")) == 2


def _no_home(path: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")
