"""The engines of a server, and which one a turn gets: the trait ``LoopatExtension.engine``.

``auto`` decides when a turn begins: ``claude`` where it is installed, its program is there in the
sandboxes, and the configured provider speaks the Anthropic API, else ``builtin``. It takes no
other engine. A turn that waits goes on with the engine it began with, so every installed engine
is made. One that cannot be made costs a line in the log, and keeps the extension from loading
only where it is the configured one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from ..context.config_file import ConfigFile, select_provider
from ..entry_points import PluginError
from ..loops.errors import ConfigError, DomainError
from ..loops.ports.engine import Engine, EngineSelection
from .plugin import EngineSetup, installed_engines

log = logging.getLogger(__name__)


class EngineUnavailable(DomainError):
    """The engine that was asked for cannot serve here; the message says what is missing."""


class EngineRegistry:
    """Implements :class:`~loopat_jupyter.loops.ports.engine.EngineSet`.

    ``made`` are the engines by name; ``missing`` says why others cannot serve, ``unsupported`` why
    an engine may not work in this server's sandboxes. An engine that fails to close does not keep
    the others from closing.
    """

    def __init__(
        self,
        wanted: str,
        home: Path,
        made: Mapping[str, Engine],
        missing: Mapping[str, str],
        unsupported: Mapping[str, str],
    ) -> None:
        self._wanted = wanted
        self._config = ConfigFile(home)
        self._made = made
        self._missing = missing
        self._unsupported = unsupported

    async def select(self) -> EngineSelection:
        if self._wanted != "auto":
            why = "it was asked for"
            if self._wanted in self._unsupported:
                why = f"{why}. {self._unsupported[self._wanted]}"
            return EngineSelection(self._made[self._wanted], why)
        name, why = await asyncio.to_thread(self._select_automatically)
        return EngineSelection(self._made[name], why)

    def _select_automatically(self) -> tuple[str, str]:
        if "claude" not in self._made:
            return "builtin", f"it comes with loopat. {self._missing['claude']}"
        try:
            name, provider, _ = select_provider(self._config.read())
        except ConfigError:
            return "builtin", "config.json cannot be used, and it will say why"
        if provider is not None and provider.api == "anthropic":
            if "claude" in self._unsupported:
                return "builtin", f"it needs nothing inside. {self._unsupported['claude']}"
            return "claude", f"it is installed, and the provider {name!r} speaks the Anthropic API"
        return "builtin", f"claude does not speak the API of the provider {name!r}"

    def named(self, name: str) -> Engine | None:
        return self._made.get(name)

    async def prepare(self) -> None:
        choice = await self.select()
        await choice.engine.prepare()

    async def close_loop(self, loop_id: str) -> None:
        for name, engine in self._made.items():
            try:
                await engine.close_loop(loop_id)
            except Exception:
                log.exception("The engine %s failed to close %s", name, loop_id)

    async def close(self) -> None:
        for name, engine in self._made.items():
            try:
                await engine.close()
            except Exception:
                log.exception("The engine %s failed to close", name)


def select_engines(wanted: str, setup: EngineSetup) -> EngineRegistry:
    """Make every engine that is installed, with ``wanted`` (or ``auto``) to serve.

    Raises:
        EngineUnavailable: there is no such engine, it is not installed, or it is broken.
    """
    plugins = installed_engines()
    if wanted != "auto" and wanted not in plugins:
        known = ", ".join(("auto", *plugins))
        raise EngineUnavailable(f"There is no engine {wanted!r}. Engines: {known}.")
    made: dict[str, Engine] = {}
    missing: dict[str, str] = {}
    unsupported: dict[str, str] = {}
    for name, plugin in plugins.items():
        try:
            if reason := plugin.unavailable():
                missing[name] = reason
                continue
            made[name] = plugin.make(setup)
            if reason := plugin.unsupported_reason(setup):
                unsupported[name] = reason
        except PluginError as error:
            made.pop(name, None)
            missing[name] = f"The engine {error.message}"
            log.warning("%s", missing[name])
            log.debug("%s: where it failed", name, exc_info=error)
    for name in {wanted, "builtin"} & missing.keys():
        raise EngineUnavailable(
            f'{missing[name]} Or set LoopatExtension.engine to "auto" or "builtin".'
        )
    return EngineRegistry(wanted, setup.home, made, missing, unsupported)
