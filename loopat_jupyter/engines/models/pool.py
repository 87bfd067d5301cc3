"""From a configured model to one that can be called.

Each provider has one pooled HTTP client, shared by all loops and closed with the engine. A client
reads certificates when it is made, so that happens in a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict

import httpx2

from ...context.config_file import SelectedModel
from .demo import DemoModel
from .http import base_url, open_http_client
from .port import Model
from .remote import RemoteModel

MODELS_KEPT = 64


class ModelPool:
    """The models of one server, made when they are first used."""

    def __init__(self) -> None:
        self._demo = DemoModel()
        self._models: OrderedDict[SelectedModel, Model] = OrderedDict()
        self._clients: dict[tuple[str, str], httpx2.AsyncClient] = {}
        self._opening = threading.Lock()

    async def model(self, choice: SelectedModel) -> Model:
        """The model for ``choice``; the same one for the same choice.

        Raises:
            ConfigError: the server's environment names a proxy or certificates that cannot be used.
        """
        if choice.api == "demo":
            return self._demo
        model = self._models.get(choice)
        if model is None:
            model = await asyncio.to_thread(self._open, choice)
        self._models[choice] = model
        self._models.move_to_end(choice)
        if len(self._models) > MODELS_KEPT:
            self._models.popitem(last=False)
        return model

    def _open(self, choice: SelectedModel) -> Model:
        """In a thread of its own, which goes on when the turn that waits for it is cancelled."""
        address = (choice.provider, base_url(choice))
        with self._opening:
            if address not in self._clients:
                self._clients[address] = open_http_client(address[1])
            return RemoteModel(choice, self._clients[address])

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        self._models.clear()
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()
