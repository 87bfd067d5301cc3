"""Which agent of ``config.json`` serves a turn of the engine ``acp``.

An agent is a program that speaks the Agent Client Protocol and runs inside the loop's sandbox. It
reaches the loop's model through :data:`PLACEHOLDERS` in its command and environment, which
:mod:`loopat_jupyter.engines.acp.launch` fills in.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config_models import AgentSection, Name, config_error

PLACEHOLDERS = ("{model_url}", "{model_key}", "{model}")
"""Where the loop's model is reached from inside, the key that works there alone, and its name."""


@dataclass(frozen=True, slots=True)
class SelectedAgent:
    """The agent that serves a turn; ``command`` and ``env`` still hold their placeholders."""

    name: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    asks: bool | str = False

    @property
    def uses_model(self) -> bool:
        """Whether it needs a model gateway: one of the placeholders is used."""
        texts = (*self.command, *(value for _, value in self.env))
        return any(placeholder in text for text in texts for placeholder in PLACEHOLDERS)


def select_agent(agents: dict[Name, AgentSection], wanted: str | None) -> SelectedAgent:
    """The agent called ``wanted``, else the only enabled one.

    Raises:
        ConfigError: there is none, or more than one; the message says what to write.
    """
    name = _only_enabled(agents) if wanted is None else wanted
    section = agents.get(name)
    if section is None:
        known = ", ".join(sorted(agents)) or "none; write one"
        raise config_error(f"agent names {name!r}, which agents has not ({known})")
    if not section.enabled:
        raise config_error(
            f'the agent {name!r} is disabled; write "enabled": true, or name another'
        )
    return SelectedAgent(name, tuple(section.command), tuple(section.env.items()), section.asks)


def _only_enabled(agents: dict[Name, AgentSection]) -> str:
    enabled = [name for name, section in agents.items() if section.enabled]
    if len(enabled) > 1:
        names = ", ".join(enabled)
        raise config_error(f'agents has several ({names}); write "agent": "NAME" to choose one')
    if not enabled:
        raise config_error(
            'it names no agent; write "agents": {"NAME": {"command": ["PROGRAM", "ARGUMENT"]}}'
        )
    return enabled[0]
