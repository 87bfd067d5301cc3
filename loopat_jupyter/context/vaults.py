"""Vaults: named bundles of credentials, one small file for each variable.

A vault is a directory ``$LOOPAT_HOME/vaults/<name>/envs``; the file ``<VAR>`` in it holds that
variable's value. The vault named ``default`` always exists, if only as an empty one.

Invariants: a value is read when it is needed and never cached; no value appears in a message or in
a log; a name that could be a path is refused, so no file outside the vault is read. All methods do
file I/O: call them off the event loop.
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

    def value(self, vault: str, variable: str) -> str | None:
        """The variable's value without a trailing newline, ``None`` where the vault has none.

        Raises:
            ConfigError: the file exists and cannot be used. The message names the variable.
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
