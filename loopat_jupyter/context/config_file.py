"""``config.json``: which models there are, and which one a turn uses.

The file is the administrator's: it is read at each turn (parsed again only when it changed) and
never written. What is wrong with it is a :class:`~loopat_jupyter.loops.errors.ConfigError` of
that turn, which names the file and the line, or the variable, and never a secret. No file, or a
file without providers, means the built-in provider ``demo``.

Keys that are not known are ignored, so a file may serve several programs. How a model is spoken
to is not known here; see :mod:`loopat_jupyter.engines.models.pool`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from .acp_agents import AgentSection, select_agent
from .acp_agents import SelectedAgent as SelectedAgent
from .config_models import CONFIG_NAME as CONFIG_NAME
from .config_models import REFERENCE, ConfigModel, Name, config_error
from .vaults import Vaults

CONFIG_LIMIT = 1024 * 1024
DEMO = "demo"
NO_KEY = "no-key"
"""What is sent as the key to a server of one's own (``baseUrl``) that has been given none."""

Api = Literal["anthropic", "openai"]
Thinking = bool | Literal["minimal", "low", "medium", "high"]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
KEY_HEADERS = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})


class ModelSection(ConfigModel):
    """One model of a provider.

    ``contextWindow`` and ``maxTokens`` (of output) are in tokens; where absent they are guessed
    from the model's name. ``thinking`` asks the model to think before it answers: ``true``,
    ``false``, or how much; where absent it is the provider's own default.
    """

    id: Name
    enabled: bool = True
    context_window: Annotated[int, Field(ge=1000)] | None = Field(
        default=None, alias="contextWindow"
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(default=None, alias="maxTokens")
    thinking: Thinking | None = None


class ProviderSection(ConfigModel):
    """One provider. Without ``models`` every model id of it may be named.

    ``headers`` and ``query`` go with every request; a header that is ``null`` is left out.
    """

    api: Api = "anthropic"
    base_url: str | None = Field(default=None, alias="baseUrl")
    api_key: str | None = Field(default=None, alias="apiKey")
    models: list[ModelSection] | None = None
    enabled: bool = True
    headers: dict[Name, str | None] = Field(default_factory=dict)
    query: dict[Name, str] = Field(default_factory=dict)


class NetworkSection(ConfigModel):
    """``presets``: named lists of destinations, for the profiles' allow-lists."""

    presets: dict[Name, list[Name]] = Field(default_factory=dict)


class Config(ConfigModel):
    """The whole file."""

    default: str | None = None
    providers: dict[Name, ProviderSection] = Field(default_factory=dict)
    network: NetworkSection = Field(default_factory=NetworkSection)
    agent: str | None = None
    agents: dict[Name, AgentSection] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SelectedModel:
    """The model that serves a turn, with everything that is needed to speak to it."""

    provider: str
    model: str
    api: Api | Literal["demo"]
    base_url: str | None = None
    api_key: str = field(default="", repr=False)
    context_window: int | None = None
    max_tokens: int | None = None
    thinking: Thinking | None = None
    headers: tuple[tuple[str, str | None], ...] = field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    models: tuple[str, ...] | None = None
    """The ids that are enabled where the provider lists its models; ``None``: any."""


DEMO_CHOICE = SelectedModel(provider=DEMO, model=DEMO, api="demo")


def _is_address(url: str) -> bool:
    """Whether ``url`` is a whole http(s) address, with a host and, if any, a real port."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it checks it
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", url)


class ConfigFile:
    """``config.json`` of one home, with the vaults its ``${VAR}`` refer to."""

    def __init__(self, home: Path, environ: Mapping[str, str] | None = None) -> None:
        self._path = home / CONFIG_NAME
        self._vaults = Vaults(home)
        self._environ = os.environ if environ is None else environ
        self._parsed: tuple[tuple[int, int, int], Config] | None = None

    async def select_model(self, vault: str) -> SelectedModel:
        """The model for a turn of a loop with this vault.

        Raises:
            ConfigError: the file, or what it refers to, is broken; says what to write.
        """
        return await asyncio.to_thread(self._select_model, vault)

    async def select_agent(self) -> SelectedAgent:
        """The agent for a turn of the engine ``acp``. Raises :class:`ConfigError`."""
        return await asyncio.to_thread(self._select_agent)

    def _select_agent(self) -> SelectedAgent:
        config = self.read()
        return select_agent(config.agents, config.agent)

    def _select_model(self, vault: str) -> SelectedModel:
        name, provider, model = select_provider(self.read())
        if provider is None or model is None:
            return DEMO_CHOICE
        key, base_url = self.credentials(name, provider, vault)
        return SelectedModel(
            provider=name,
            model=model.id,
            api=provider.api,
            base_url=base_url or None,
            api_key=key or NO_KEY,
            context_window=model.context_window,
            max_tokens=model.max_tokens,
            thinking=model.thinking,
            models=_enabled(provider),
            headers=self._extra_headers(name, provider, vault),
            query=tuple(
                (key, self._resolve(value, f"providers.{name}.query.{key}", vault))
                for key, value in provider.query.items()
            ),
        )

    def _extra_headers(
        self, name: str, provider: ProviderSection, vault: str
    ) -> tuple[tuple[str, str | None], ...]:
        """A provider's own headers, names in lower case. Raises :class:`ConfigError`."""
        found: list[tuple[str, str | None]] = []
        for header, text in provider.headers.items():
            where = f"providers.{name}.headers.{header}"
            if not _HEADER_NAME.fullmatch(header):
                raise config_error(f"{where} is no name that a header can have")
            value = None if text is None else self._resolve(text, where, vault)
            if value is not None:
                _check_header_value(value, where)
            found.append((header.lower(), value))
        keys = {header for header, value in found if value and header in KEY_HEADERS}
        if keys and not provider.api_key:  # the key is in one of them: no second one beside it
            found += [
                (other, None) for other in ("authorization", "x-api-key") if other not in keys
            ]
        return tuple(found)

    def credentials(self, name: str, provider: ProviderSection, vault: str) -> tuple[str, str]:
        """A provider's key and address with every ``${VAR}`` filled in; either may be empty.

        Raises :class:`ConfigError` where a variable is not set, or both are missing.
        """
        where = f"providers.{name}"
        key = self._resolve(provider.api_key, f"{where}.apiKey", vault)
        _check_header_value(key, _origin_of(provider.api_key, f"{where}.apiKey"))
        base_url = self._resolve(provider.base_url, f"{where}.baseUrl", vault)
        if not key and not base_url:
            raise config_error(
                f'{where} has no apiKey. Write "apiKey": "${{VAR}}" and put the key into VAR '
                "of the loop's vault, or into the server's environment"
            )
        if base_url and not _is_address(base_url):
            raise config_error(f"{where}.baseUrl is no http:// or https:// address")
        return key, base_url

    def read(self) -> Config:
        """The parsed file; does file I/O. Raises :class:`ConfigError`."""
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                if self._parsed is not None and self._parsed[0] == version:
                    return self._parsed[1]
                data = file.read(CONFIG_LIMIT + 1)
        except FileNotFoundError:
            return Config()
        except OSError as error:
            raise config_error(f"it cannot be read ({error.strerror})") from None
        if len(data) > CONFIG_LIMIT:
            raise config_error("it is larger than 1 MiB")
        config = parse_config(data)
        self._parsed = (version, config)
        return config

    def _resolve(self, text: str | None, where: str, vault: str) -> str:
        """``text`` with every ``${VAR}`` replaced by the vault's value, else the server's."""

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if not _VARIABLE.fullmatch(name):
                raise config_error(f"{where} refers to a variable whose name is not valid")
            found = self._vaults.value(vault, name)
            if found is None:
                found = self._environ.get(name)
            if not found:
                raise config_error(
                    f"{where} needs the variable {name}, and it is not set: neither in the vault "
                    f"{vault!r} nor in the server's environment"
                )
            return found

        return REFERENCE.sub(value, text or "").strip()


def _origin_of(text: str | None, where: str) -> str:
    """Where a value comes from: the variable that it refers to, else its place in the file."""
    found = REFERENCE.fullmatch((text or "").strip())
    return f"the variable {found[1]} ({where})" if found else where


def _check_header_value(value: str, where: str) -> None:
    """Keys travel in headers, which take printable ASCII alone. The value is never named."""
    bad = next((one for one in value if not " " <= one <= "~"), None)
    if bad is None:
        return
    if bad in "\r\n":
        what = "a line break"
    elif bad == "\0":
        what = "a NUL character"
    elif bad in "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb":
        what = "a typographic quotation mark, as word processors make them"
    elif bad == "\u00a0" or bad.isspace():
        what = "a space that is none of the keyboard's"
    else:
        what = f"the character U+{ord(bad):04X}"
    raise config_error(f"{where} holds {what}, which no key can have; copy the key again")


def _enabled(provider: ProviderSection) -> tuple[str, ...] | None:
    if provider.models is None:
        return None
    return tuple(model.id for model in provider.models if model.enabled)


def parse_config(data: bytes) -> Config:
    """The config in ``data``. Raises :class:`ConfigError` with the line of what is wrong."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise config_error("it is not UTF-8", data[: error.start].count(b"\n") + 1) from None
    if not text.strip():
        raise config_error("it is empty; write {} into it, or remove it, for the demo model", 1)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise config_error(f"it is not valid JSON: {error.msg}", error.lineno) from None
    except RecursionError:
        raise config_error("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise config_error("it must hold a JSON object", 1)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        keys = [part for part in first["loc"] if _is_in_file(part)]
        name = ".".join(str(part) for part in keys)
        problem = first["msg"].removeprefix("Value error, ")
        raise config_error(f"{name}: {problem}", _line_of(text, keys)) from None


def select_provider(config: Config) -> tuple[str, ProviderSection | None, ModelSection | None]:
    """Provider name, provider and model that ``config`` means; ``None`` for the demo.

    Without ``default`` it is the first enabled model of the first enabled provider.
    """
    if config.default is None:
        return _first(config)
    name, slash, model_id = config.default.partition("/")
    if not slash or not name or not model_id:
        raise config_error('default must be written as "PROVIDER/MODEL", for example "demo/demo"')
    provider = config.providers.get(name)
    if provider is None:
        if config.default == "demo/demo":
            return DEMO, None, None
        known = ", ".join(sorted(config.providers)) or "none; write one"
        raise config_error(
            f"default names the provider {name!r}, which providers has not ({known})"
        )
    if not provider.enabled:
        raise config_error(
            f'the provider {name!r} is disabled; write "enabled": true, or name another'
        )
    return name, provider, _model(name, provider, model_id)


def _model(name: str, provider: ProviderSection, model_id: str) -> ModelSection:
    if provider.models is None:
        return ModelSection(id=model_id)
    found = next((model for model in provider.models if model.id == model_id), None)
    if found is None:
        raise config_error(
            f"default names the model {model_id!r}, which providers.{name}.models has not; "
            f'write {{"id": "{model_id}"}} there, or name another'
        )
    if not found.enabled:
        raise config_error(
            f"the model {model_id!r} of {name!r} is disabled; "
            'write "enabled": true, or name another in default'
        )
    return found


def _first(config: Config) -> tuple[str, ProviderSection | None, ModelSection | None]:
    if not config.providers:
        return DEMO, None, None
    for name, provider in config.providers.items():
        for model in provider.models or ():
            if provider.enabled and model.enabled:
                return name, provider, model
    raise config_error('no provider has an enabled model; write "default": "PROVIDER/MODEL"')


def _is_in_file(part: int | str) -> bool:
    """Pydantic also names the member of a union it tried; that is not in the file."""
    return isinstance(part, int) or not (part.startswith("literal[") or part in ("bool", "[key]"))


def _line_of(text: str, keys: list[int | str]) -> int | None:
    """The line of the innermost of ``keys`` that can be found, each one after its parent."""
    position = found = 0
    for key in keys:
        if isinstance(key, str):
            match = re.compile(re.escape(json.dumps(key)) + r"\s*:").search(text, position)
            if match is None:
                break
            position, found = match.end(), match.start()
        else:
            for _ in range(key):
                position = max(position, text.find("}", position) + 1)
    return text.count("\n", 0, found) + 1
