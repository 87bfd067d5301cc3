"""The Anthropic Messages API. See :mod:`.api_registry`."""

from __future__ import annotations

import functools

import anthropic
import httpx2
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.providers.anthropic import AnthropicProvider

from ...context.config_file import SelectedModel
from .http import ANTHROPIC_URL, base_url

SDK_ERROR = anthropic.AnthropicError

SETTINGS = AnthropicModelSettings(
    anthropic_cache_tool_definitions=True,
    anthropic_cache_instructions=True,
    anthropic_cache_messages=True,
)


def connect(choice: SelectedModel, http: httpx2.AsyncClient) -> Model:
    _warm_up()
    provider = AnthropicProvider(anthropic_client=_client(choice, http))
    return AnthropicModel(choice.model, provider=provider)


def _client(choice: SelectedModel, http: httpx2.AsyncClient) -> anthropic.AsyncAnthropic:
    client = anthropic.AsyncAnthropic(
        api_key=choice.api_key,
        base_url=base_url(choice),
        max_retries=0,
        timeout=http.timeout,
        open_telemetry=False,
        http_client=http,
    )
    # The SDK sends the key as a bearer token. Gateways that speak the same API commonly look for
    # the header it used before, so a configured base URL gets both.
    own_address = base_url(choice) != ANTHROPIC_URL
    client._custom_headers = {"x-api-key": choice.api_key} if own_address else {}
    return client


@functools.cache
def _warm_up() -> None:
    """Have the SDK read an empty stream, offline.

    At its first event the SDK builds a schema of all events, which takes a tenth of a second: here
    that happens in the thread in which :func:`connect` is called, not on the event loop.
    """
    body = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'
    response = httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=body)
    offline = httpx2.Client(transport=httpx2.MockTransport(lambda request: response))
    with (
        anthropic.Anthropic(
            api_key="none", base_url="http://none.invalid", http_client=offline
        ) as client,
        client.beta.messages.create(model="none", max_tokens=1, messages=[], stream=True) as events,
    ):
        list(events)
