"""The schema of ``config.json``, one class for each section, and the error for a fault in it.

Types are strict, and unknown keys are ignored everywhere, so that a file may serve several
programs. How the file is read and what a turn takes from it is in :mod:`.config_file`.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from ..loops.errors import ConfigError

CONFIG_NAME = "config.json"

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Api = Literal["anthropic", "openai"]
Thinking = bool | Literal["minimal", "low", "medium", "high"]
REFERENCE = re.compile(r"\$\{([^}]*)\}")
"""``${VAR}``: a value of the vault or the server's environment."""


def config_error(problem: str, line: int | None = None) -> ConfigError:
    """The error for a fault in the file; ``problem`` is a clause that says what to write."""
    where = CONFIG_NAME if line is None else f"{CONFIG_NAME}, line {line}"
    return ConfigError(f"{where}: {problem}.")


class ConfigModel(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, populate_by_name=True)


class ModelSection(ConfigModel):
    """One model of a provider.

    ``contextWindow`` and ``maxTokens`` (of output) are in tokens; where absent they are guessed
    from the model's name. ``thinking`` asks the model to think before it answers: ``true``,
    ``false``, or how much; where absent it is the provider's own default.
    """

    id: Name
    enabled: bool = True
    context_window: Annotated[int, Field(ge=1000)] | None = Field(
        default=None, alias="contextWindow"
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(default=None, alias="maxTokens")
    thinking: Thinking | None = None


class ProviderSection(ConfigModel):
    """One provider. Without ``models`` every model id of it may be named.

    ``headers`` and ``query`` go with every request; a header that is ``null`` is left out.
    """

    api: Api = "anthropic"
    base_url: str | None = Field(default=None, alias="baseUrl")
    api_key: str | None = Field(default=None, alias="apiKey")
    models: list[ModelSection] | None = None
    enabled: bool = True
    headers: dict[Name, str | None] = Field(default_factory=dict)
    query: dict[Name, str] = Field(default_factory=dict)


def _without_references(text: str) -> str:
    if REFERENCE.search(text) is not None:
        raise ValueError(
            "${…} is not filled in here: the agent runs inside the sandbox, where no secret may "
            "be. Let it reach the loop's model with {model_url} and {model_key}"
        )
    if "\0" in text:
        raise ValueError("a NUL character cannot be passed to a program")
    return text


def _as_text(value: Any) -> Any:
    """An object stands for its JSON text: many agents take their configuration like that."""
    return json.dumps(value) if isinstance(value, dict) else value


_Word = Annotated[str, AfterValidator(_without_references)]
_Value = Annotated[str, BeforeValidator(_as_text), AfterValidator(_without_references)]
_Variable = Annotated[str, Field(pattern=r"^[^=\x00]+$")]


class AgentSection(ConfigModel):
    """One agent.

    ``asks``: whether the agent asks before each tool that is more than reading; or the id of its
    session mode in which it does. Only then can a permission mode that asks or denies be enforced.
    """

    command: Annotated[list[_Word], Field(min_length=1)]
    env: dict[_Variable, _Value] = Field(default_factory=dict)
    asks: bool | Name = False
    enabled: bool = True


class NetworkSection(ConfigModel):
    """``presets``: named lists of destinations, for the profiles' allow-lists."""

    presets: dict[Name, list[Name]] = Field(default_factory=dict)


class Config(ConfigModel):
    """The whole file."""

    default: str | None = None
    providers: dict[Name, ProviderSection] = Field(default_factory=dict)
    network: NetworkSection = Field(default_factory=NetworkSection)
    agent: str | None = None
    agents: dict[Name, AgentSection] = Field(default_factory=dict)
