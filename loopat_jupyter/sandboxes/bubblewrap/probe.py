"""Trying the tier ``bubblewrap`` on this host: a real sandbox is started and ended."""

from __future__ import annotations

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.sandboxes.bubblewrap.hints import MISSING, how_to_fix
from loopat_jupyter.sandboxes.bubblewrap.tier import BubblewrapTier, find_bwrap
from loopat_jupyter.sandboxes.runtime.limits import enforced_controllers
from loopat_jupyter.sandboxes.runtime.probe import Attempt, TierProbe
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings


def try_bubblewrap(settings: SandboxSettings) -> Attempt:
    """See :data:`loopat_jupyter.sandboxes.runtime.probe.Try`."""
    bwrap = find_bwrap()
    if bwrap is None:
        return Attempt(None, TierProbe("bubblewrap", False, "bwrap was not found", MISSING))
    tier = BubblewrapTier(settings, bwrap)
    try:
        tier.probe()
    except SandboxSpawnFailed as error:
        tier.close()
        detail = error.message.rstrip(".")
        return Attempt(None, TierProbe("bubblewrap", False, detail, how_to_fix(detail)))
    detail, held = "a sandbox was started and ended", enforced_controllers(settings)
    return Attempt(tier, TierProbe("bubblewrap", True, detail, controllers=held))
