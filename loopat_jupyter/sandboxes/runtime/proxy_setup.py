"""A sandbox's broker as it is made with the sandbox, and what the supervisor is told of it."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.inside.proxy_listener import open_listener
from loopat_jupyter.sandboxes.proxy.server import USER, EgressProxyServer
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings


def make_proxy(spec: SandboxSpec, settings: SandboxSettings, *, shared: bool) -> EgressProxyServer:
    """``shared``: the sandbox shares the host's loopback; else its supervisor makes the door."""
    crowd = settings.crowd
    return EgressProxyServer(
        spec.loop_id, spec.egress, settings.audit, _now, shared=shared, crowd=crowd
    )


def open_on_host(broker: EgressProxyServer, user: int) -> int:
    """Make the broker's door on the host's loopback, for this user's processes alone; its port.

    Raises ``OSError``.
    """
    door, port = open_listener()
    broker.start(socket.socket(fileno=door), ours=True, user=user)
    return port


def proxy_config(broker: EgressProxyServer | None, port: int | None) -> dict[str, Any]:
    """Where the supervisor finds the door; it makes one itself where ``port`` is ``None``."""
    key = broker.proxy_key if broker is not None else None
    return {"port": port, "credentials": f"{USER}:{key}@" if key else ""}


def _now() -> str:
    """The time as the contract writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
