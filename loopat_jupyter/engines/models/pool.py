"""Opens the configured models, and shares their HTTP clients.

Each provider address has one pooled HTTP client, shared by all loops and closed with the engine.
The SDKs take seconds to import; they are imported in a thread when the first turn needs them. The
demo model never needs them.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...context.config_file import SelectedModel
from .demo import DemoModel
from .port import Model

MODELS_KEPT = 64


class ModelPool:
    """The models of this server, opened when they are first used."""

    def __init__(self) -> None:
        self._demo = DemoModel()
        self._models: OrderedDict[SelectedModel, Model] = OrderedDict()
        self._clients: dict[tuple[str, str], Any] = {}
        self._open_lock = threading.Lock()

    async def model(self, choice: SelectedModel) -> Model:
        """The model for ``choice``; the same object for an equal choice."""
        if choice.api == "demo":
            return self._demo
        model = self._models.get(choice)
        if model is None:
            model = await asyncio.to_thread(self._open_in_thread, choice)
        self._models[choice] = model
        self._models.move_to_end(choice)
        if len(self._models) > MODELS_KEPT:
            self._models.popitem(last=False)
        return model

    def _open_in_thread(self, choice: SelectedModel) -> Model:
        """Open a model in a worker thread, which goes on when the waiting turn is cancelled."""
        with self._open_lock, gc_paused():
            return self._open(choice)

    def _open(self, choice: SelectedModel) -> Model:
        connection = importlib.import_module(f"{__package__}.http")
        remote = importlib.import_module(f"{__package__}.pydantic_ai")
        address = (choice.provider, connection.base_url(choice))
        if address not in self._clients:
            self._clients[address] = connection.open_http_client()
        model: Model = remote.RemoteModel(choice, self._clients[address])
        return model

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        self._models.clear()
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the collector of cyclic garbage. An SDK's import creates very many objects that stay;
    to traverse them again and again would take a quarter of the import's time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
