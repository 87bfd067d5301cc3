"""The OpenAI Chat Completions API, OpenAI's own and that of others. See :mod:`.api_registry`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
import openai
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from ...context.config_file import SelectedModel
from .http import OPENAI_URL, base_url

SDK_ERROR = openai.OpenAIError

SETTINGS: Mapping[str, Any] = {}


def connect(choice: SelectedModel, http: httpx2.AsyncClient) -> Model:
    client = _client(choice, http)
    if base_url(choice) == OPENAI_URL:
        return OpenAIChatModel(choice.model, provider=OpenAIProvider(openai_client=client))
    compatible = OpenAICompatibleProvider(choice.provider, openai_client=client)
    return OpenAIChatModel(choice.model, provider=compatible)


def _client(choice: SelectedModel, http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    client = openai.AsyncOpenAI(
        api_key=choice.api_key,
        base_url=base_url(choice),
        max_retries=0,
        timeout=http.timeout,
        http_client=http,
    )
    client.organization = client.project = client.admin_api_key = None
    client._custom_headers = {}
    return client
