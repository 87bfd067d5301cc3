"""The tier ``unavailable``: stands in where no tier works on this host.

The server runs without a sandbox and serves everything that needs none; a turn that needs one ends
with the reason, which says how to fix the host.
"""

from __future__ import annotations

from collections.abc import Sequence

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import Sandbox, SandboxIsolation, SandboxSpec


class UnavailableTier:
    """Implements :class:`~loopat_jupyter.loops.ports.sandbox.SandboxTier`; ``reason`` is shown to
    people."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    @property
    def isolation(self) -> SandboxIsolation:
        return SandboxIsolation(tier="unavailable", isolates=False, gaps=(self._reason,))

    def create(self, spec: SandboxSpec) -> Sandbox:
        """Raises ``SandboxSpawnFailed`` with the reason."""
        raise SandboxSpawnFailed(self._reason)

    async def retained(self) -> Sequence[str]:
        return ()

    async def remove(self, loop_id: str) -> None:
        """Nothing is kept of a loop."""

    def close(self) -> None:
        """Nothing runs."""
