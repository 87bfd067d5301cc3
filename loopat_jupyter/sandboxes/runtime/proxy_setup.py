"""Makes a sandbox's egress proxy, and the part of the supervisor's configuration that names it."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.inside.proxy_listener import open_listener
from loopat_jupyter.sandboxes.proxy.server import PROXY_USER, EgressProxyServer
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings


def make_proxy(spec: SandboxSpec, settings: SandboxSettings, *, shared: bool) -> EgressProxyServer:
    """The egress proxy of a sandbox that is about to start. ``shared``: the sandbox shares the
    host's loopback interface; else its supervisor opens the listener."""
    limiter = settings.connection_limiter
    return EgressProxyServer(
        spec.loop_id, spec.egress, settings.audit, _now, shared=shared, limiter=limiter
    )


def open_on_host(proxy: EgressProxyServer, user: int) -> int:
    """Listen on the host's loopback interface, for the processes of ``user`` (a uid) alone.

    Returns the port. Raises ``OSError``.
    """
    listener, port = open_listener()
    proxy.start(socket.socket(fileno=listener), private=True, uid=user)
    return port


def proxy_config(proxy: EgressProxyServer | None, port: int | None) -> dict[str, Any]:
    """Where the proxy listens, for the supervisor, which without a ``port`` opens the listener."""
    key = proxy.proxy_key if proxy is not None else None
    return {"port": port, "credentials": f"{PROXY_USER}:{key}@" if key else ""}


def _now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
