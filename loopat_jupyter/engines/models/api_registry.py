"""The supported APIs, each in a module of its own, so that only the SDK that is needed is imported.

The SDKs read environment variables for keys, addresses and headers. The modules here set each of
them explicitly and undo what cannot be set, so that ``config.json`` alone decides where a request
goes and what it carries. The SDKs' own retries are off; see
:mod:`loopat_jupyter.engines.builtin.model_call`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, cast

import httpx2
from pydantic_ai.models import Model

from ...context.config_file import SelectedModel


class Api(Protocol):
    """What the module of an API has."""

    SETTINGS: Mapping[str, Any]
    """pydantic-ai's model settings for every request of this API."""
    SDK_ERROR: type[Exception]
    """The base class of what its SDK raises."""

    def connect(self, choice: SelectedModel, http: httpx2.AsyncClient) -> Model:
        """pydantic-ai's model for ``choice``, over the client ``http``."""


def load_api(choice: SelectedModel) -> Api:
    """The module of the choice's API. Imports an SDK: call it off the event loop."""
    return cast(Api, importlib.import_module(f"{__package__}.{choice.api}"))
