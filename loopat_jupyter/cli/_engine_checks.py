"""The checks of models, providers, engines and agents.

They send nothing, unless ``--online`` is given: then the model of the next turn is called for one
token.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from ._check_result import Check

if TYPE_CHECKING:
    from loopat_jupyter.context.config_file import ConfigFile, SelectedModel
    from loopat_jupyter.context.config_models import ProviderSection
    from loopat_jupyter.engines.plugin import EnginePlugin, EngineSetup
    from loopat_jupyter.extension import LoopatExtension


def engine_checks(extension: LoopatExtension | None, home: Path, *, online: bool) -> list[Check]:
    """The model of the next turn, every provider, the engine that serves, and the others."""
    from loopat_jupyter.config import EngineConfig

    config = extension or EngineConfig()
    model, choice = model_check(home)
    checks = [model]
    if online and choice is not None and choice.api != "demo":
        checks.append(asyncio.run(request_one_token(choice)))
    return [
        *checks,
        *environment_checks(home),
        *provider_checks(home),
        engine_check(config.engine, config.engine_setup(home)),
        *optional_checks(home, config.engine_setup(home)),
    ]


def model_check(home: Path) -> tuple[Check, SelectedModel | None]:
    """Which model the next turn would use, and why. Nothing is sent to it."""
    from loopat_jupyter.context.config_file import ConfigFile
    from loopat_jupyter.context.config_models import CONFIG_NAME
    from loopat_jupyter.loops.errors import ConfigError

    there = (home / CONFIG_NAME).exists()
    try:
        choice = asyncio.run(ConfigFile(home).select_model("default"))
    except ConfigError as error:
        return Check("model", "bad", error.message, f"edit {home / CONFIG_NAME}"), None
    if choice.api == "demo":
        why = f"{CONFIG_NAME} configures no other" if there else f"there is no {CONFIG_NAME}"
        found = f"demo/demo, the built-in offline agent: {why}"
        fix = f"for a real model describe a provider in {home / CONFIG_NAME}"
        return Check("model", "info", found, fix), choice
    where = choice.base_url or f"{choice.api}'s own address"
    found = f"{choice.provider}/{choice.model} through {choice.api} at {where}, from {CONFIG_NAME}"
    return Check("model", "ok", found), choice


async def request_one_token(choice: SelectedModel) -> Check:
    """Call the model with a limit of one token."""
    from dataclasses import replace

    from loopat_jupyter.engines.models.messages import UserMessage
    from loopat_jupyter.engines.models.pool import ModelPool
    from loopat_jupyter.engines.models.port import (
        ModelError,
        ModelRequest,
        ModelText,
        ModelThinking,
    )
    from loopat_jupyter.loops.errors import ConfigError

    async def ignore_delta(_delta: ModelText | ModelThinking) -> None:
        return

    providers = ModelPool()
    name = f"{choice.provider}/{choice.model}"
    try:
        model = await providers.model(replace(choice, max_tokens=1, thinking=None))
        await model.complete(
            ModelRequest("", (UserMessage("Say: ok", current=True),)), ignore_delta
        )
    except ConfigError as error:
        return Check("model online", "bad", error.message)
    except ModelError as error:
        fix = "check its apiKey, its baseUrl, and this machine's network"
        return Check("model online", "bad", f"{name} did not answer: {error.message}", fix)
    finally:
        await providers.close()
    return Check("model online", "ok", f"{name} answered")


def environment_checks(home: Path) -> list[Check]:
    """Whether the proxies and certificates that the environment names can be used.

    The server has its own environment: run doctor in the one that starts it.
    """
    from loopat_jupyter.context.config_file import ConfigFile
    from loopat_jupyter.engines.models.http import proxy_for, tls_context
    from loopat_jupyter.loops.errors import ConfigError

    try:
        tls_context()
    except ConfigError as error:
        return [Check("certificates", "bad", error.message)]
    try:
        providers = ConfigFile(home).read().providers
    except ConfigError:
        return []  # model_check reports it
    checks = []
    for name, provider in providers.items():
        try:
            proxy = proxy_for(provider.base_url or "https://api.invalid")
        except ConfigError as error:
            checks.append(Check(f"proxy for {name}", "bad", error.message))
            continue
        if proxy is not None:
            host = proxy.rpartition("@")[2].partition("://")[2] or proxy.rpartition("@")[2]
            checks.append(Check(f"proxy for {name}", "info", f"its requests go through {host}"))
    return checks


def provider_checks(home: Path) -> list[Check]:
    """Every provider of config.json, and whether what it refers to is there."""
    from loopat_jupyter.context.config_file import ConfigFile
    from loopat_jupyter.loops.errors import ConfigError

    file = ConfigFile(home)
    try:
        config = file.read()
    except ConfigError:
        return []  # model_check reports it
    return [_provider(file, name, provider) for name, provider in config.providers.items()]


def _provider(file: ConfigFile, name: str, provider: ProviderSection) -> Check:
    from loopat_jupyter.context.vaults import DEFAULT_VAULT
    from loopat_jupyter.loops.errors import ConfigError

    models = ", ".join(m.id for m in provider.models or () if m.enabled) or "any model"
    where = provider.base_url or "its own address"
    found = f"{provider.api} at {where}: {models}"
    if not provider.enabled:
        return Check(f"provider {name}", "info", f"disabled; {found}")
    try:
        file.credentials(name, provider, DEFAULT_VAULT)
    except ConfigError as error:
        fix = "only loops with another vault can use it, unless the variable is set"
        return Check(f"provider {name}", "warning", error.message, fix)
    return Check(f"provider {name}", "ok", found)


def engine_check(wanted: str, setup: EngineSetup) -> Check:
    """The engine of the next turn, and why it is that one."""
    from loopat_jupyter.engines.registry import select_engines
    from loopat_jupyter.loops.errors import DomainError

    try:
        engines = select_engines(wanted, setup)
    except DomainError as error:
        return Check("engine", "bad", error.message)
    choice = asyncio.run(engines.select())
    waits = "outlive" if choice.engine.durable_choices else "end with"
    found = (
        f"{choice.engine.name}: {choice.why.rstrip('.')}. Its choices {waits} sandbox and server"
    )
    return Check("engine", "ok", found)


def _engine(plugin: EnginePlugin, setup: EngineSetup) -> Check:
    from loopat_jupyter.entry_points import PluginError

    name = f"engine {plugin.name}"
    try:
        reason = plugin.unavailable()
        if reason is None and plugin.plugin.distribution:
            plugin.make(setup)  # somebody else's is really made, as the server does it
    except PluginError as error:
        fix = f"repair or uninstall {plugin.plugin.distribution}"
        return Check(name, "warning", error.message, fix)
    return Check(name, "info", reason or "installed")


def optional_checks(home: Path, setup: EngineSetup) -> list[Check]:
    """The engines that are extras, and the agents that config.json describes."""
    from loopat_jupyter.context.config_file import ConfigFile
    from loopat_jupyter.engines.plugin import installed_engines
    from loopat_jupyter.loops.errors import ConfigError

    plugins = [plugin for name, plugin in installed_engines().items() if name != "builtin"]
    checks = [_engine(plugin, setup) for plugin in plugins]
    try:
        agents = ConfigFile(home).read().agents
    except ConfigError:
        return checks
    for name, agent in agents.items():
        asks = "asks before its tools" if agent.asks else "does not ask before its tools"
        state = asks if agent.enabled else "disabled"
        checks.append(Check(f"agent {name}", "info", f"{agent.command[0]}: {state}"))
    return checks
