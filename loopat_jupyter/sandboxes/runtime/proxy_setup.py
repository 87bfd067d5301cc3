"""A sandbox's broker as it is made with the sandbox, and what the supervisor is told of it."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

from loopat_jupyter.loops.ports.engine import SandboxSpec
from loopat_jupyter.sandboxes.inside.proxy_listener import open_listener
from loopat_jupyter.sandboxes.proxy.server import PROXY_USER, EgressProxyServer
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings


def make_proxy(spec: SandboxSpec, settings: SandboxSettings, *, shared: bool) -> EgressProxyServer:
    """``shared``: the sandbox shares the host's loopback; else its supervisor makes the door."""
    crowd = settings.connection_limiter
    return EgressProxyServer(
        spec.loop_id, spec.egress, settings.audit, _now, shared=shared, limiter=crowd
    )


def open_on_host(proxy: EgressProxyServer, user: int) -> int:
    """Make the broker's door on the host's loopback, for this user's processes alone; its port.

    Raises ``OSError``.
    """
    listener, port = open_listener()
    proxy.start(socket.socket(fileno=listener), private=True, uid=user)
    return port


def proxy_config(proxy: EgressProxyServer | None, port: int | None) -> dict[str, Any]:
    """Where the supervisor finds the door; it makes one itself where ``port`` is ``None``."""
    key = proxy.proxy_key if proxy is not None else None
    return {"port": port, "credentials": f"{PROXY_USER}:{key}@" if key else ""}


def _now() -> str:
    """The time as the contract writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
