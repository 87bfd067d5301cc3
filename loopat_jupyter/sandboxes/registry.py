"""Which tier serves: the strongest that a real probe proves, or the one that was asked for.

``auto`` never falls to ``none``: without a tier that holds, loops refuse to start, and the
message says how to fix the host. :func:`probe_tiers` says the same beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxTier
from loopat_jupyter.sandboxes.bubblewrap.hints import MISSING, how_to_fix
from loopat_jupyter.sandboxes.bubblewrap.tier import BubblewrapTier, find_bwrap
from loopat_jupyter.sandboxes.landlock.probe import try_landlock
from loopat_jupyter.sandboxes.none import UnconfinedTier
from loopat_jupyter.sandboxes.podman.probe import try_podman
from loopat_jupyter.sandboxes.runtime.limits import enforced_controllers
from loopat_jupyter.sandboxes.runtime.probe import Attempt, TierProbe, Try
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings


def _try_bubblewrap(settings: SandboxSettings) -> Attempt:
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


TRIES: Mapping[str, Try] = {
    "bubblewrap": _try_bubblewrap,
    "landlock": try_landlock,
    "podman": try_podman,
}
"""Every tier that isolates, strongest first."""

AUTOMATIC = ("bubblewrap", "landlock")
"""What ``auto`` tries, in this order."""


def select_tier(name: str, settings: SandboxSettings) -> SandboxTier:
    """The tier called ``name`` (``auto``: the strongest that works). Blocks for some 50 ms.

    Raises ``SandboxSpawnFailed`` with what to do about it when it does not work on this host.
    """
    if name == "none":
        return UnconfinedTier(settings)
    if name != "auto" and name not in TRIES:
        known = ", ".join(["auto", *TRIES, "none"])
        raise SandboxSpawnFailed(f"There is no sandbox called {name}; there are {known}.")
    failed: list[TierProbe] = []
    for candidate in AUTOMATIC if name == "auto" else (name,):
        attempt = TRIES[candidate](settings)
        if attempt.tier is not None:
            return attempt.tier
        failed.append(attempt.probe)
    raise SandboxSpawnFailed(_nothing_works(name, failed))


def _nothing_works(name: str, failed: list[TierProbe]) -> str:
    first = failed[0]
    what = (
        "No sandbox works on this host" if name == "auto" else f"The sandbox {name} does not work"
    )
    fix = f" To fix it: {first.fix}." if first.fix else ""
    return f"{what}: {first.detail}.{fix} `loopat doctor` shows the details."


def probe_tiers(settings: SandboxSettings) -> list[TierProbe]:
    """What each tier says on this host, strongest first; for ``loopat doctor``."""
    found = []
    for attempt in (attempt_(settings) for attempt_ in TRIES.values()):
        if attempt.tier is not None:
            attempt.tier.close()
        found.append(attempt.probe)
    return [
        *found,
        TierProbe(
            "none",
            True,
            "no isolation; only when the administrator sets it",
            controllers=enforced_controllers(settings),
        ),
    ]
