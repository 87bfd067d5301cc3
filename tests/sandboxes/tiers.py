"""The tiers that isolate, as the acceptance suite tries them, and the walls each does not have.

A wall that a tier does not have is named in ``GAPS`` with words of the tier's own list of gaps:
the test then holds that the gap is listed, instead of the wall.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loopat_jupyter.loops.ports import SandboxTier
from loopat_jupyter.sandboxes.base import SandboxSettings
from loopat_jupyter.sandboxes.bubblewrap import BubblewrapTier, find_bwrap
from loopat_jupyter.sandboxes.landlock import LandlockTier
from loopat_jupyter.sandboxes.landlock_rules import NoLandlock, kernel_abi
from tests.sandboxes import podman_ground

DENIED = re.compile("Read-only|Permission denied|Operation not permitted")
"""How a wall answers; tiers differ in which of these it is."""


@dataclass(frozen=True)
class Tried:
    """How to make a tier, and why it cannot be made here (``None``: it can)."""

    make: Callable[[SandboxSettings], SandboxTier]
    absent: Callable[[], str | None] = lambda: None
    gaps: Mapping[str, str] = field(default_factory=dict)
    """Test name -> words of the gap in the tier's isolation."""


def bubblewrap(settings: SandboxSettings) -> BubblewrapTier:
    bwrap = find_bwrap()
    assert bwrap is not None
    return BubblewrapTier(settings, bwrap)


def landlock(settings: SandboxSettings) -> LandlockTier:
    return LandlockTier(settings, kernel_abi())


def no_landlock() -> str | None:
    try:
        kernel_abi()
    except NoLandlock as refusal:
        return f"this kernel offers no Landlock: {refusal}"
    return None


def podman(settings: SandboxSettings) -> SandboxTier:
    return podman_ground.tier_with_base(settings)


TIERS = {
    "bubblewrap": Tried(bubblewrap),
    "landlock": Tried(
        landlock,
        no_landlock,
        {
            "test_only_what_the_hosts_etc_must_show_is_there": "/etc/passwd",
            "test_there_is_a_network_namespace": "shares all namespaces with the host",
            "test_the_sandboxes_own_memory_is_limited": "its size is not limited",
            "test_tmp_is_the_sandboxes_own": "shares all namespaces with the host",
        },
    ),
    "podman": Tried(podman, podman_ground.why_not),
}
"""Every tier that isolates, by name."""
