"""The engines of a server, and which one a turn gets: the trait ``LoopatExtension.engine``.

An engine whose extra is not installed is not there; nothing of it is imported. ``auto`` decides
when a turn begins: ``claude`` where it is installed, its program is there in the sandboxes, and the
configured provider speaks the Anthropic API, else ``builtin``. A turn that waits goes on with the
engine it began with.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..context.config_file import ConfigFile, select_provider
from ..loops.errors import ConfigError, DomainError
from ..loops.ports.engine import Engine, EngineSelection
from .builtin.engine import BuiltinEngine, ComposeInstructions, EngineLimits

ENGINES = ("auto", "builtin", "claude", "acp")

EngineFactory = Callable[[Path, ComposeInstructions], Engine]


class EngineUnavailable(DomainError):
    """The engine that was asked for cannot serve here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class SandboxPlacement:
    """Where turns run: the trait ``LoopatExtension.sandbox``, and the host's paths that every
    sandbox sees besides."""

    sandbox: str = "auto"
    shown: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineKind:
    """An engine that may be installed: the package of this room that holds it."""

    name: str
    package: str

    def unavailable(self) -> str | None:
        """Why it cannot serve, and what to install; ``None`` where it can."""
        try:
            module = importlib.import_module(f"{__package__}.{self.package}")
        except ModuleNotFoundError:
            return f"This version of loopat-jupyter does not have the engine {self.name!r} yet."
        reason: str | None = module.unavailable()
        return reason

    def unsupported_reason(self, place: SandboxPlacement) -> str | None:
        """Why ``auto`` does not take it for sandboxes of this kind; ``None`` where it may."""
        module = importlib.import_module(f"{__package__}.{self.package}")
        check = getattr(module, "unsupported_reason", None)
        return check(place.sandbox, place.shown) if check is not None else None

    def make(
        self, home: Path, instructions: ComposeInstructions, limits: EngineLimits | None
    ) -> Engine:
        module = importlib.import_module(f"{__package__}.{self.package}")
        engine: Engine = module.make_engine(home, instructions, limits)
        return engine


OPTIONAL_ENGINES = (EngineKind("claude", "claude"), EngineKind("acp", "acp"))


class EngineRegistry:
    """Implements :class:`~loopat_jupyter.loops.ports.engine.EngineSet`."""

    def __init__(
        self,
        wanted: str,
        home: Path,
        made: Mapping[str, Engine],
        missing: Mapping[str, str],
        misplaced: Mapping[str, str],
    ) -> None:
        self._wanted = wanted
        self._config = ConfigFile(home)
        self._made = made
        self._missing = missing
        self._misplaced = misplaced

    async def select(self) -> EngineSelection:
        if self._wanted != "auto":
            why = "it was asked for"
            if self._wanted in self._misplaced:
                why = f"{why}. {self._misplaced[self._wanted]}"
            return EngineSelection(self._made[self._wanted], why)
        name, why = await asyncio.to_thread(self._automatic)
        return EngineSelection(self._made[name], why)

    def _automatic(self) -> tuple[str, str]:
        if "claude" not in self._made:
            return "builtin", f"it comes with loopat. {self._missing['claude']}"
        try:
            name, provider, _ = select_provider(self._config.read())
        except ConfigError:
            return "builtin", "config.json cannot be used, and it will say why"
        if provider is not None and provider.api == "anthropic":
            if "claude" in self._misplaced:
                return "builtin", f"it needs nothing inside. {self._misplaced['claude']}"
            return "claude", f"it is installed, and the provider {name!r} speaks the Anthropic API"
        return "builtin", f"claude does not speak the API of the provider {name!r}"

    def named(self, name: str) -> Engine | None:
        return self._made.get(name)

    async def prepare(self) -> None:
        choice = await self.select()
        await choice.engine.prepare()

    async def close_loop(self, loop_id: str) -> None:
        for engine in self._made.values():
            await engine.close_loop(loop_id)

    async def close(self) -> None:
        for engine in self._made.values():
            await engine.close()


def select_engines(
    wanted: str,
    home: Path,
    instructions: ComposeInstructions,
    limits: EngineLimits | None = None,
    place: SandboxPlacement | None = None,
) -> EngineRegistry:
    """The engines that are installed, with ``wanted`` (one of :data:`ENGINES`) to serve.

    Raises:
        EngineUnavailable: there is no such engine, or it is not installed.
    """
    if wanted not in ENGINES:
        raise EngineUnavailable(f"There is no engine {wanted!r}. Engines: {', '.join(ENGINES)}.")
    made: dict[str, Engine] = {"builtin": BuiltinEngine(home, instructions, limits)}
    missing: dict[str, str] = {}
    misplaced: dict[str, str] = {}
    for kind in OPTIONAL_ENGINES:
        reason = kind.unavailable()
        if reason is None:
            made[kind.name] = kind.make(home, instructions, limits)
            if why := kind.unsupported_reason(place or SandboxPlacement()):
                misplaced[kind.name] = why
        else:
            missing[kind.name] = reason
    if wanted in missing:
        raise EngineUnavailable(
            f'{missing[wanted]} Or set LoopatExtension.engine to "auto" or "builtin".'
        )
    return EngineRegistry(wanted, home, made, missing, misplaced)
