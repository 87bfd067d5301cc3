"""The HTTP side of a provider: where its requests go, and through which pooled client.

A proxy of the server's environment is honoured, but never for this machine itself.
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
"""Seconds without a byte. Local servers think for minutes before the first one."""

_LOOPBACK = ("all://localhost", "all://*.localhost", "all://127.0.0.1", "all://[::1]")


def base_url(choice: SelectedModel) -> str:
    """Where the choice's requests go: the configured address, else its API's own."""
    default = ANTHROPIC_URL if choice.api == "anthropic" else OPENAI_URL
    return (choice.base_url or default).rstrip("/")


def open_http_client() -> httpx2.AsyncClient:
    """A client with its own pool. Loads certificates: make it off the event loop."""
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(SILENCE_TIMEOUT, connect=CONNECT_TIMEOUT),
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
        mounts=dict.fromkeys(_LOOPBACK),
        event_hooks={"response": [install_hook]},
    )


def tls_context() -> ssl.SSLContext:
    """The same trust for connections of our own. Loads certificates: make it off the event loop."""
    context: ssl.SSLContext = httpx2.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
