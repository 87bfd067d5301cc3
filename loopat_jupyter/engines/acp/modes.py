"""Can this agent be held by this permission mode, and which of its own modes does that need?

An agent runs its tools itself; our policy hears of a call only where the agent asks. So a mode that
asks or denies is kept for agents that are said to ask (``asks`` in ``config.json``), and refused
for the others before they have done anything. What they do is held by the sandbox in any case.
"""

from __future__ import annotations

from ...context.acp_agents import SelectedAgent
from ...loops.errors import TurnFailure
from ...loops.ports.engine import PermissionMode
from .process import AgentProcess
from .turn_reporter import UNASKED


def check_mode_supported(choice: SelectedAgent, mode: PermissionMode) -> None:
    """Raises ``TurnFailure`` where the agent does not ask, and the mode wants it to."""
    if choice.asks or mode in UNASKED:
        return
    raise TurnFailure(
        f"The mode {mode} needs an agent that asks before it acts, and {choice.name!r} is not "
        'said to. Set it up to ask and write "asks": true for it in config.json, or send the '
        "message with the mode bypassPermissions: what it does then stays inside the sandbox."
    )


async def put_into_mode(agent: AgentProcess, choice: SelectedAgent, mode: PermissionMode) -> None:
    """Set the session's mode where ``asks`` names one: that one, or the session's own first."""
    session = agent.session
    assert session is not None
    if not isinstance(choice.asks, str) or not choice.asks:
        return
    if choice.asks not in session.modes:
        known = ", ".join(session.modes) or "none"
        raise TurnFailure(
            f"config.json says that the agent {choice.name!r} asks in its mode {choice.asks!r}, "
            f"which it does not have. Its modes: {known}."
        )
    wanted = session.mode if mode in UNASKED else choice.asks
    if wanted is not None:  # each time: the agent may have left it by itself
        await agent.link.set_mode(session.session_id, wanted)
