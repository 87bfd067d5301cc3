"""Which engine serves: the trait ``LoopatExtension.engine``, turned into an engine and a reason."""

from __future__ import annotations

from pathlib import Path

from ..loops.errors import LoopatError
from ..loops.ports import EngineChoice
from .builtin import BuiltinEngine, EngineLimits, Instructions

ENGINES = ("auto", "builtin", "claude", "acp")


class EngineUnavailable(LoopatError):
    """The engine that was asked for cannot serve here; the message says what is missing."""


def select_engine(
    name: str, home: Path, instructions: Instructions, limits: EngineLimits | None = None
) -> EngineChoice:
    """The engine ``name``, one of :data:`ENGINES`.

    Raises:
        EngineUnavailable: there is no such engine, or this version does not have it.
    """
    if name not in ENGINES:
        raise EngineUnavailable(f"There is no engine {name!r}. Engines: {', '.join(ENGINES)}.")
    if name not in ("auto", "builtin"):
        raise EngineUnavailable(
            f"This version of loopat-jupyter does not have the engine {name!r} yet. "
            'Set LoopatExtension.engine to "auto" or "builtin".'
        )
    why = "it was asked for" if name == "builtin" else "it is the engine that comes with loopat"
    return EngineChoice(engine=BuiltinEngine(home, instructions, limits), why=why)
