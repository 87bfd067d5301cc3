"""The engine ``builtin``: our own turn loop over any model. Imported when the engine is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...loops.ports.engine import Engine
    from ..plugin import EngineSetup


def make_engine(setup: EngineSetup) -> Engine:
    from .engine import BuiltinEngine, EngineLimits

    return BuiltinEngine(setup.home, setup.instructions, EngineLimits(tools=setup.tools))
