"""How an agent is started: its command and environment, with the loop's model filled in.

The address and key that are filled in belong to the sandbox's model gateway and are worthless
outside. An agent is restarted when its launch differs from the one it was started with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...context.acp_agents import SelectedAgent
from ...context.config_file import SelectedModel
from ...loops.ports.network import GatewayAccess

_PLACEHOLDER = re.compile(r"\{(?:model_url|model_key|model)\}")


@dataclass(frozen=True, slots=True)
class AgentLaunch:
    """``agent`` is the agent's name in ``config.json``."""

    agent: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)


def build_launch(
    agent: SelectedAgent, access: GatewayAccess | None, model: SelectedModel | None
) -> AgentLaunch:
    """``access`` and ``model`` are ``None`` where the agent uses none of the placeholders."""
    values: dict[str, str] = {}
    if access is not None and model is not None:
        values = {"{model_url}": access.url, "{model_key}": access.key, "{model}": model.model}

    def filled(text: str) -> str:
        return _PLACEHOLDER.sub(lambda match: values.get(match[0], match[0]), text)

    return AgentLaunch(
        agent.name,
        tuple(filled(word) for word in agent.command),
        {name: filled(value) for name, value in agent.env},
    )
