"""The engine ``acp``: any agent that speaks the Agent Client Protocol, inside the loop's sandbox.

The agent is a program that ``config.json`` names. It runs in the sandbox with its own tools, and
reaches the loop's model through the sandbox's gateway; we start it, prompt it, show what it does,
and answer what it asks. Room by room: :mod:`.engine` is the port, :mod:`.process` the living agent,
:mod:`.link` and :mod:`.wire` how it is spoken to (the SDK is known there alone), :mod:`.past`
what it is told of earlier turns, :mod:`.exchange` one prompt, :mod:`.report`, :mod:`.calls` and
:mod:`.permission` what is made of its updates and requests.
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
    """The engine; the SDK is not imported before it is needed.

    Limits of tools are not ours to set: the agent brings its own tools.
    """
    from .engine import AcpEngine

    return AcpEngine(setup.home, setup.instructions)
