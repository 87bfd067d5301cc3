"""The engine ``acp``: any agent that speaks the Agent Client Protocol, inside the loop's sandbox.

The agent is a program that ``config.json`` names. It runs in the sandbox with its own tools, and
reaches the loop's model through the sandbox's model gateway. The server starts it, prompts it,
shows what it does and answers its requests.

* :mod:`.engine` implements the port; :mod:`.process` is the agent's process, :mod:`.launch` its
  command and environment, :mod:`.errors` what is said when it fails;
* :mod:`.client` and :mod:`.transport` speak the protocol; only they know the SDK;
* :mod:`.journal` is what is stored about the agent's session;
* :mod:`.prompt` runs one prompt; :mod:`.turn_reporter`, :mod:`.tool_call_state`,
  :mod:`.tool_names` and :mod:`.content_blocks` turn its updates into the loop's events;
* :mod:`.permission` and :mod:`.elicitation` answer what the agent asks.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..plugin import EngineSetup
    from .engine import AcpEngine


def unavailable() -> str | None:
    """Why this engine cannot serve here, and what to install; ``None`` if it can."""
    if find_spec("acp") is None:
        return (
            "The engine acp needs the package agent-client-protocol, which is not installed. "
            'Install it where the server runs: pip install "loopat-jupyter[acp]"'
        )
    return None


def make_engine(setup: EngineSetup) -> AcpEngine:
    """Create the engine. The SDK is imported when the first agent is started.

    The limits of tools do not apply: an agent brings its own tools.
    """
    from .engine import AcpEngine

    return AcpEngine(setup.home, setup.instructions)
