"""Engines as entry points of the group :data:`GROUP`.

Such an entry point names a module or an object with these functions:

* ``make_engine(setup: EngineSetup) -> Engine``. The engine's ``name`` is the entry point's.
* ``unavailable() -> str | None``, optional: why the engine cannot serve, and what to install.
* ``unsupported_reason(sandbox: str, read_only_paths: Sequence[Path]) -> str | None``, optional:
  why the engine may not work in sandboxes of this tier, and what to do about it.

The module is imported when the engine is asked about: an engine with heavy dependencies imports
them in ``make_engine`` or later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..entry_points import Plugin, describe, installed_plugins
from ..loops.ports.engine import Engine, Turn
from .tools.outcome import ToolLimits

GROUP = "loopat_jupyter.engines"
OWN_ENGINES = {
    "builtin": "loopat_jupyter.engines.builtin",
    "claude": "loopat_jupyter.engines.claude",
    "acp": "loopat_jupyter.engines.acp",
}
"""The package's own engines: name to entry point. pyproject.toml declares the same."""

ENGINE_MEMBERS = ("durable_choices", "run", "prepare", "close_loop", "close")

ComposeInstructions = Callable[[Turn], Awaitable[str]]
"""What an agent is told before the conversation: its loop, profiles and knowledge."""


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """What an engine is made with.

    ``home`` is the loopat home, with ``config.json``; ``instructions`` composes what an agent is
    told before the conversation; ``sandbox`` is the trait ``LoopatExtension.sandbox`` and
    ``read_only_paths`` the host's paths that every sandbox sees besides its own.
    """

    home: Path
    instructions: ComposeInstructions
    tools: ToolLimits = field(default_factory=ToolLimits)
    sandbox: str = "auto"
    read_only_paths: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class EnginePlugin:
    """An engine that may be installed. Its methods raise ``PluginError`` where it is broken."""

    plugin: Plugin

    @property
    def name(self) -> str:
        return self.plugin.name

    def unavailable(self) -> str | None:
        """Why it cannot serve, and what to install; ``None`` where it can."""
        reason = self._call("unavailable", optional=True)
        return None if reason is None else str(reason)

    def unsupported_reason(self, setup: EngineSetup) -> str | None:
        """Why ``auto`` does not take it for the sandboxes of ``setup``; ``None`` where it may."""
        paths = setup.read_only_paths
        reason = self._call("unsupported_reason", setup.sandbox, paths, optional=True)
        return None if reason is None else str(reason)

    def make(self, setup: EngineSetup) -> Engine:
        made = self._call("make_engine", setup)
        missing = [name for name in ENGINE_MEMBERS if not hasattr(made, name)]
        if missing:
            raise self.plugin.error(f"what make_engine returns has no {', '.join(missing)}")
        if getattr(made, "name", None) != self.name:
            raise self.plugin.error(f"its engine must have the name {self.name!r}")
        engine: Engine = made
        return engine

    def _call(self, function: str, *args: object, optional: bool = False) -> Any:
        call = getattr(self.plugin.load(), function, None)
        if call is None and optional:
            return None
        if not callable(call):
            raise self.plugin.error(f"it has no function {function}")
        try:
            return call(*args)
        except Exception as error:
            raise self.plugin.error(f"{function} failed with {describe(error)}") from error


def installed_engines() -> dict[str, EnginePlugin]:
    """The engines that are declared on this machine, by name, the package's own first."""
    plugins = installed_plugins(GROUP, OWN_ENGINES)
    return {name: EnginePlugin(plugin) for name, plugin in plugins.items()}


def engine_names() -> list[str]:
    """What ``LoopatExtension.engine`` may be."""
    return ["auto", *installed_plugins(GROUP, OWN_ENGINES)]
