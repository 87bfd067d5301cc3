"""The engine ``builtin``: the server's own agent, calling a model and using tools in the sandbox.

:mod:`.engine` runs a turn, :mod:`.model_call` calls the model with retries, :mod:`.tool_calls` runs
its tool calls, :mod:`.history` rebuilds the conversation of earlier turns, and
:mod:`.context_window` fits it into the model's window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...loops.ports.engine import Engine
    from ..plugin import EngineSetup


def make_engine(setup: EngineSetup) -> Engine:
    from .engine import BuiltinEngine, EngineLimits

    return BuiltinEngine(setup.home, setup.instructions, EngineLimits(tools=setup.tools))
