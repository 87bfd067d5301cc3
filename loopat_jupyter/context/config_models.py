"""What the sections of ``config.json`` have in common: strict types, and how a fault is told.

Unknown keys are ignored everywhere, so that a file may serve several programs.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from ..loops.errors import ConfigError

CONFIG_NAME = "config.json"

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
REFERENCE = re.compile(r"\$\{([^}]*)\}")
"""``${VAR}``: a value of the vault or the server's environment."""


class ConfigModel(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, populate_by_name=True)


def config_error(what: str, line: int | None = None) -> ConfigError:
    """The error for a fault in the file; ``what`` says what to write."""
    where = CONFIG_NAME if line is None else f"{CONFIG_NAME}, line {line}"
    return ConfigError(f"{where}: {what}.")
