"""From a configured model to one that can be asked, with one HTTP client for each provider."""

from __future__ import annotations

from ..context.config import ModelChoice
from ..loops.errors import ConfigError
from .demo import DemoModel
from .model import Model


class Providers:
    """The models of one server, made when they are first used."""

    def __init__(self) -> None:
        self._demo = DemoModel()

    async def prepare(self) -> None:
        return

    async def model(self, choice: ModelChoice) -> Model:
        if choice.api == "demo":
            return self._demo
        raise ConfigError(f"config.json: the provider api {choice.api!r} is not supported.")

    async def close(self) -> None:
        return
