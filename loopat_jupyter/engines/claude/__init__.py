"""The engine ``claude``: the Claude Agent SDK in the server, its CLI in the loop's sandbox.

Nothing of the SDK is imported here; a server without the extra ``[claude]`` can load this package.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ...loops.ports import Engine
from ..builtin import EngineLimits, Instructions

SDK = "claude_agent_sdk"


def unavailable() -> str | None:
    """Why this engine cannot serve, and what to install; ``None`` where it can."""
    if importlib.util.find_spec(SDK) is None:
        return (
            "The engine 'claude' needs the Claude Agent SDK, which is not installed: "
            "pip install 'loopat-jupyter[claude]'."
        )
    return None


def make_engine(
    home: Path, instructions: Instructions, limits: EngineLimits | None = None
) -> Engine:
    from .engine import ClaudeEngine

    return ClaudeEngine(home, instructions, limits)
