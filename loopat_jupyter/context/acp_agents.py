"""The agents of ``config.json``: programs that speak the Agent Client Protocol.

An agent runs inside the loop's sandbox, so nothing that is secret may be written here: a
``${VAR}`` in a command or an environment is refused. What an agent needs to reach the loop's model
it gets through :data:`PLACEHOLDERS`; how they are filled is the engine's affair.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from .config_models import REFERENCE, ConfigModel, Name, config_error

PLACEHOLDERS = ("{model_url}", "{model_key}", "{model}")
"""Where the loop's model is reached from inside, the key that works there alone, and its name."""


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
    session mode in which it does. Only then can a permission mode that asks or denies hold it.
    """

    command: Annotated[list[_Word], Field(min_length=1)]
    env: dict[_Variable, _Value] = Field(default_factory=dict)
    asks: bool | Name = False
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class SelectedAgent:
    """The agent that serves a turn; ``command`` and ``env`` with their placeholders."""

    name: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    asks: bool | str = False

    @property
    def uses_model(self) -> bool:
        """Whether the loop's model must be lent to it."""
        texts = (*self.command, *(value for _, value in self.env))
        return any(placeholder in text for text in texts for placeholder in PLACEHOLDERS)


def select_agent(agents: dict[Name, AgentSection], wanted: str | None) -> SelectedAgent:
    """The agent that the file means.

    Raises:
        ConfigError: it means none, or several; says what to write.
    """
    name = _the_only_one(agents) if wanted is None else wanted
    section = agents.get(name)
    if section is None:
        known = ", ".join(sorted(agents)) or "none; write one"
        raise config_error(f"agent names {name!r}, which agents has not ({known})")
    if not section.enabled:
        raise config_error(
            f'the agent {name!r} is disabled; write "enabled": true, or name another'
        )
    return SelectedAgent(name, tuple(section.command), tuple(section.env.items()), section.asks)


def _the_only_one(agents: dict[Name, AgentSection]) -> str:
    enabled = [name for name, section in agents.items() if section.enabled]
    if len(enabled) > 1:
        names = ", ".join(enabled)
        raise config_error(f'agents has several ({names}); write "agent": "NAME" to choose one')
    if not enabled:
        raise config_error(
            'it names no agent; write "agents": {"NAME": {"command": ["PROGRAM", "ARGUMENT"]}}'
        )
    return enabled[0]
