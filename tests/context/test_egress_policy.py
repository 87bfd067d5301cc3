"""Allow-lists of profiles: entries, presets, and the errors for broken files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from loopat_jupyter.context.egress_policy import FILE_LIMIT, loop_egress
from loopat_jupyter.loops.errors import ConfigError

OWN: Mapping[str, Sequence[str]] = {"ours": ["git.example", "*.ours.example:8443"], "none": []}


def profile(home: Path, name: str, content: object) -> None:
    place = home / "profiles" / name
    place.mkdir(parents=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (place / "network.json").write_text(text)


def allowed(home: Path, *profiles: str) -> list[str]:
    return [str(one) for one in loop_egress(home, profiles, lambda: OWN).allowed]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home directory without a configuration of pip or npm, and no variables of theirs."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "npm_config_registry",
                 "NPM_CONFIG_REGISTRY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("loopat_jupyter.context.egress_policy.PIP_FILES", ("~/pip.conf",))
    monkeypatch.setattr("loopat_jupyter.context.egress_policy.NPM_FILES", ("~/.npmrc",))
    return home


def test_nothing_is_allowed_by_default(tmp_path: Path) -> None:
    profile(tmp_path, "empty", {})
    assert allowed(tmp_path) == allowed(tmp_path, "missing") == allowed(tmp_path, "empty") == []


def test_profiles_add_up_in_their_order_each_destination_once(tmp_path: Path) -> None:
    profile(tmp_path, "one", {"allow": ["B.example", "*.c.example:8443", "[2001:db8::1]:443"]})
    profile(tmp_path, "two", {"allow": ["a.example", "b.example."]})
    assert allowed(tmp_path, "one", "two") == [
        "b.example",
        "*.c.example:8443",
        "[2001:db8::1]:443",
        "a.example",
    ]


def test_a_preset_of_the_administrator_stands_for_its_list(tmp_path: Path) -> None:
    profile(tmp_path, "one", {"allow": ["ours", "none"]})
    assert allowed(tmp_path, "one") == ["git.example", "*.ours.example:8443"]


def test_a_preset_of_the_administrator_comes_before_one_of_ours(tmp_path: Path) -> None:
    profile(tmp_path, "one", {"allow": ["git-hosts"]})
    assert len(allowed(tmp_path, "one")) > 1
    found = loop_egress(tmp_path, ["one"], lambda: {"git-hosts": ["git.example"]})
    assert [str(one) for one in found.allowed] == ["git.example"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "line 1"),
        ("[]", '"allow"'),
        ('"allow"', '"allow"'),
        ({"allow": "a.example"}, '"allow"'),
        ({"allow": [1]}, '"allow"'),
        ({"allow": ["a.example/path"]}, "a.example/path"),
        ({"allow": ["*"]}, "no preset"),
        ({"allow": ["*.org"]}, "two parts"),
        ({"allow": ["127.1"]}, "number"),
        ({"allow": ["a.example:99999"]}, "port"),
        ({"allow": ["unknown"]}, "There are: git-hosts, none, npm-packages, ours, python-packages"),
        ("[" * 100_000, "cannot be read"),
        ('{"allow": [' + '"a.example",' * FILE_LIMIT, "valid JSON"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(
    tmp_path: Path, content: object, said: str
) -> None:
    profile(tmp_path, "one", content)
    with pytest.raises(ConfigError) as error:
        allowed(tmp_path, "one")
    assert "profiles/one/network.json" in str(error.value)
    assert said in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    profile(tmp_path, "one", "")
    (tmp_path / "profiles" / "one" / "network.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ConfigError, match=r"profiles/one/network\.json"):
        allowed(tmp_path, "one")


def test_a_broken_preset_of_the_administrator_is_named(tmp_path: Path) -> None:
    profile(tmp_path, "one", {"allow": ["ours"]})
    with pytest.raises(ConfigError, match=r"config\.json, network\.presets\.ours"):
        loop_egress(tmp_path, ["one"], lambda: {"ours": ["a b.example"]})


# ------------------------------------------------------------------ presets of the machine


def test_python_packages_follow_pips_configuration(
    tmp_path: Path, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile(tmp_path, "one", {"allow": ["python-packages"]})
    (machine / "pip.conf").write_text(
        "[global]\nindex-url = https://u:p%40@Mirror.example:8443/simple\n"
        "extra-index-url = http://one.example/x\n  http://two.example/x\n"
    )
    monkeypatch.setenv("PIP_INDEX_URL", "https://first.example/simple")
    assert allowed(tmp_path, "one") == [
        "first.example:443",
        "mirror.example:8443",
        "one.example:80",
        "two.example:80",
    ]


def test_python_packages_are_pips_own_where_nothing_is_configured(
    tmp_path: Path, machine: Path
) -> None:
    profile(tmp_path, "one", {"allow": ["python-packages"]})
    assert len(allowed(tmp_path, "one")) == 2


def test_npm_packages_follow_npms_configuration(tmp_path: Path, machine: Path) -> None:
    profile(tmp_path, "one", {"allow": ["npm-packages"]})
    assert allowed(tmp_path, "one") == []
    (machine / ".npmrc").write_text(
        "registry=https://npm.example/\n@own:registry = https://own.example:8443/\n"
        "//npm.example/:_authToken=secret\n"
    )
    assert allowed(tmp_path, "one") == ["npm.example:443", "own.example:8443"]


def test_a_mirror_that_is_no_address_is_passed_over(tmp_path: Path, machine: Path) -> None:
    profile(tmp_path, "one", {"allow": ["python-packages", "npm-packages"]})
    (machine / "pip.conf").write_text(
        "[global]\nindex-url = https://[::1/simple\n"
        "extra-index-url = https://a.example:x/ file:///x https://a_b.example/ https://b.example/\n"
    )
    (machine / ".npmrc").write_text("registry=https://a.example:99999/\n")
    assert allowed(tmp_path, "one") == ["b.example:443"]
