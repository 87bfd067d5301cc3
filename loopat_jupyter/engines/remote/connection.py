"""The HTTP side of a provider: its pooled client, and the SDK's client on top of it.

Both SDKs read environment variables for keys, addresses and headers. Here everything is said
explicitly and what cannot be said is undone, so that ``config.json`` alone decides where a
request goes and what it carries. A proxy of the environment is honoured, but never for this
machine itself. The SDKs' own retries are off; see :mod:`loopat_jupyter.engines.asking`.
"""

from __future__ import annotations

import anthropic
import httpx2
import openai
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from ...context.config import ModelChoice

ANTHROPIC_URL = "https://api.anthropic.com"
OPENAI_URL = "https://api.openai.com/v1"

CONNECT_TIMEOUT = 10.0
SILENCE_TIMEOUT = 600.0
"""Seconds without a byte. Local servers think for minutes before the first one."""

_LOOPBACK = ("all://localhost", "all://*.localhost", "all://127.0.0.1", "all://[::1]")


def base_url(choice: ModelChoice) -> str:
    """Where the choice's requests go: the configured address, else its API's own."""
    default = ANTHROPIC_URL if choice.api == "anthropic" else OPENAI_URL
    return (choice.base_url or default).rstrip("/")


def open_http_client() -> httpx2.AsyncClient:
    """A client with its own pool. Loads certificates: make it off the event loop."""
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(SILENCE_TIMEOUT, connect=CONNECT_TIMEOUT),
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
        mounts=dict.fromkeys(_LOOPBACK),
    )


def connect(choice: ModelChoice, http: httpx2.AsyncClient) -> Model:
    """pydantic-ai's model for ``choice``, on ``http``."""
    if choice.api == "anthropic":
        provider = AnthropicProvider(anthropic_client=_anthropic(choice, http))
        return AnthropicModel(choice.model, provider=provider)
    client = _openai(choice, http)
    if base_url(choice) == OPENAI_URL:
        return OpenAIChatModel(choice.model, provider=OpenAIProvider(openai_client=client))
    compatible = OpenAICompatibleProvider(choice.provider, openai_client=client)
    return OpenAIChatModel(choice.model, provider=compatible)


def _anthropic(choice: ModelChoice, http: httpx2.AsyncClient) -> anthropic.AsyncAnthropic:
    client = anthropic.AsyncAnthropic(
        api_key=choice.api_key,
        base_url=base_url(choice),
        max_retries=0,
        timeout=http.timeout,
        open_telemetry=False,
        http_client=http,
    )
    # The SDK sends the key as a bearer token. Gateways that speak the same API commonly look for
    # the header it used before, so an address of one's own gets both.
    own = base_url(choice) != ANTHROPIC_URL
    client._custom_headers = {"x-api-key": choice.api_key} if own else {}
    return client


def _openai(choice: ModelChoice, http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
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
