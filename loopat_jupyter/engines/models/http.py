"""The HTTP client for a provider, and the provider's base URL.

A proxy that the server's environment names is used, but never for this machine itself.
"""

from __future__ import annotations

import ssl

import httpx2

from ...context.config_file import SelectedModel
from .delta_tap import install_hook

ANTHROPIC_URL = "https://api.anthropic.com"
OPENAI_URL = "https://api.openai.com/v1"

CONNECT_TIMEOUT = 10.0
SILENCE_TIMEOUT = 600.0
"""Seconds without a byte. Local servers compute for minutes before the first one."""

_LOOPBACK = ("all://localhost", "all://*.localhost", "all://127.0.0.1", "all://[::1]")


def base_url(model: SelectedModel) -> str:
    """The base URL of the model's provider: the configured one, else its API's own."""
    default = ANTHROPIC_URL if model.api == "anthropic" else OPENAI_URL
    return (model.base_url or default).rstrip("/")


def open_http_client() -> httpx2.AsyncClient:
    """A client with its own connection pool. Loads certificates: call it off the event loop."""
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(SILENCE_TIMEOUT, connect=CONNECT_TIMEOUT),
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
        mounts=dict.fromkeys(_LOOPBACK),
        event_hooks={"response": [install_hook]},
    )


def tls_context() -> ssl.SSLContext:
    """The same trusted certificates, for the gateway's connections. Loads them: call it off the
    event loop."""
    context: ssl.SSLContext = httpx2.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
