"""The result of trying a tier on this host. Each tier has a function that tries it."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass

from loopat_jupyter.loops.ports.sandbox import SandboxTier
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class TierProbe:
    """What trying a tier on this host showed. ``fix`` is empty where it works.

    ``controllers`` are the cgroup controllers in force; see
    :func:`loopat_jupyter.sandboxes.runtime.limits.limits_in_force`.
    """

    tier: str
    works: bool
    detail: str
    fix: str = ""
    controllers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A tier that was tried: ready to be used, or ``None`` with the reason in ``probe``."""

    tier: SandboxTier | None
    probe: TierProbe


Try = Callable[[SandboxSettings], Attempt]
"""Tries a tier with the settings that loops get. Blocks, and leaves nothing where it fails."""


def await_end(pidfd: int) -> None:
    """Wait for a probe's process to end, and kill it when it does not. Closes the descriptor."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(TIMEOUT_MS):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poll.poll(TIMEOUT_MS)
    os.close(pidfd)
