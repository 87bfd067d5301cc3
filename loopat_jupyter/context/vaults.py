"""Vaults: named bundles of credentials, one small file for each variable.

A vault is a directory ``$LOOPAT_HOME/vaults/<name>/envs``; the file ``<VAR>`` in it holds that
variable's value. The vault named ``default`` always exists, if only as an empty one.

Invariants: values are read when they are needed and kept nowhere; no value appears in a message
or in a log; a name is never taken as a path, so nothing outside the vault can be read. The
functions here do file I/O: call them off the event loop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..loops.errors import ConfigError

DEFAULT_VAULT = "default"
VALUE_LIMIT = 64 * 1024
"""Bytes. A longer file is no credential, and is refused."""

_VAULT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


@dataclass(frozen=True, slots=True)
class Vaults:
    """The vaults of one home."""

    home: Path

    def exists(self, name: str) -> bool:
        if not _VAULT_NAME.fullmatch(name):
            return False
        return name == DEFAULT_VAULT or (self.home / "vaults" / name).is_dir()

    def names(self) -> list[str]:
        """All vaults by name; ``default`` is always among them."""
        root = self.home / "vaults"
        found = {entry.name for entry in root.iterdir()} if root.is_dir() else set()
        return sorted({DEFAULT_VAULT} | {name for name in found if self.exists(name)})

    def value(self, vault: str, variable: str) -> str | None:
        """The variable's value without its trailing newline, ``None`` where the vault has none.

        Raises:
            ConfigError: the file is there and cannot be used. Names the variable, never a value.
        """
        if not _VAULT_NAME.fullmatch(vault) or not _VARIABLE_NAME.fullmatch(variable):
            return None
        path = self.home / "vaults" / vault / "envs" / variable
        try:
            with path.open("rb") as file:
                data = file.read(VALUE_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigError(
                f"Variable {variable} of vault {vault!r} cannot be read: {error.strerror}."
            ) from None
        if len(data) > VALUE_LIMIT:
            raise ConfigError(f"Variable {variable} of vault {vault!r} is longer than 64 KiB.")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"Variable {variable} of vault {vault!r} is not UTF-8.") from None
        return text.removesuffix("\n").removesuffix("\r")
