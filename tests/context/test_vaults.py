"""Vaults: values by name, never a path, never a secret in a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopat_jupyter.context.vaults import VALUE_LIMIT, Vaults
from loopat_jupyter.loops.errors import ConfigError


def put(home: Path, vault: str, name: str, data: bytes) -> None:
    folder = home / "vaults" / vault / "envs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"secret\n", "secret"),
        (b"secret", "secret"),
        (b"secret\r\n", "secret"),
        (b" a b \n\n", " a b \n"),
        (b"", ""),
    ],
)
def test_a_value_is_its_file_without_the_trailing_newline(
    tmp_path: Path, data: bytes, value: str
) -> None:
    put(tmp_path, "work", "KEY", data)
    assert Vaults(tmp_path).value("work", "KEY") == value


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    put(tmp_path, "work", "KEY", b"x")
    vaults = Vaults(tmp_path)
    assert vaults.value("work", "OTHER") is None
    assert vaults.value("home", "KEY") is None


@pytest.mark.parametrize(
    ("vault", "name"),
    [
        ("..", "KEY"),
        ("office", "../../office/envs/KEY"),
        ("work/../work", "KEY"),
        ("", "KEY"),
        ("work", ""),
        ("work", "KEY\0"),
        (".work", "KEY"),
        ("work", "a" * 5000),
        ("a" * 5000, "KEY"),
    ],
)
def test_a_name_is_never_a_path(tmp_path: Path, vault: str, name: str) -> None:
    put(tmp_path, "work", "KEY", b"x")
    assert Vaults(tmp_path).value(vault, name) is None
    assert not Vaults(tmp_path).exists(vault) or vault == "work"


def test_the_default_vault_always_exists(tmp_path: Path) -> None:
    vaults = Vaults(tmp_path)
    assert vaults.exists("default")
    assert not vaults.exists("work")
    put(tmp_path, "work", "KEY", b"x")
    (tmp_path / "vaults" / ".hidden").mkdir()
    (tmp_path / "vaults" / "file").write_text("")
    assert vaults.exists("work")
    assert not vaults.exists(".hidden")
    assert not vaults.exists("file")
    assert vaults.exists("default")


@pytest.mark.parametrize("data", [b"\xff\xfe secret", b"s" * (VALUE_LIMIT + 1)])
def test_a_value_that_cannot_be_used_names_the_variable_only(tmp_path: Path, data: bytes) -> None:
    put(tmp_path, "work", "KEY", data)
    with pytest.raises(ConfigError, match="Variable KEY of vault 'work'") as caught:
        Vaults(tmp_path).value("work", "KEY")
    assert "secret" not in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "vaults" / "work" / "envs" / "KEY").mkdir(parents=True)
    with pytest.raises(ConfigError, match="KEY"):
        Vaults(tmp_path).value("work", "KEY")
