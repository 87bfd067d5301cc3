"""How an agent is started: its command and environment, with the loop's model filled in.

What is filled in is worthless outside the sandbox. A launch that differs from the one a living
agent was started with means that the agent must be started anew.
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
    agent: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)


def build_launch(
    agent: SelectedAgent, loan: GatewayAccess | None, model: SelectedModel | None
) -> AgentLaunch:
    """``loan`` and ``model`` are there where the agent uses a placeholder."""
    values: dict[str, str] = {}
    if loan is not None and model is not None:
        values = {"{model_url}": loan.url, "{model_key}": loan.key, "{model}": model.model}

    def filled(text: str) -> str:
        return _PLACEHOLDER.sub(lambda match: values.get(match[0], match[0]), text)

    return AgentLaunch(
        agent.name,
        tuple(filled(word) for word in agent.command),
        {name: filled(value) for name, value in agent.env},
    )
