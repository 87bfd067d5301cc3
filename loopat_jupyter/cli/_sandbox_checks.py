"""The checks of sandboxes: every tier is started once, and its enforced limits are listed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._check_result import Check

if TYPE_CHECKING:
    from loopat_jupyter.extension import LoopatExtension
    from loopat_jupyter.sandboxes.runtime.probe import TierProbe


def sandbox_checks(extension: LoopatExtension | None, home: Path) -> list[Check]:
    """The tier that a loop would get, started once; then every tier with what it lacks."""
    from loopat_jupyter.extension import LoopatExtension
    from loopat_jupyter.loops.errors import DomainError
    from loopat_jupyter.sandboxes.registry import probe_tiers, select_tier

    extension = extension or LoopatExtension()
    wanted = extension.sandbox
    with tempfile.TemporaryDirectory(prefix="loopat-doctor-") as run_dir:
        settings = extension.sandbox_settings(Path(run_dir), (home,))
        probes = probe_tiers(settings)
        try:
            tier = select_tier(wanted, settings)
        except DomainError as error:
            fixes = "; ".join(p.fix for p in probes if p.fix and wanted in ("auto", p.tier))
            return [Check("sandbox", "bad", f"{wanted}: {error.message}", fixes or None)] + [
                _tier_check(probe) for probe in probes
            ]
        serving = tier.isolation.tier
        found = [_selected_tier_check(wanted, tier), *(_tier_check(probe) for probe in probes)]
    return [*found, *(_limits_check(probe) for probe in probes if probe.tier == serving)]


def _tier_check(probe: TierProbe) -> Check:
    detail = probe.detail if probe.works else f"no: {probe.detail}"
    return Check(f"tier {probe.tier}", "info", detail, probe.fix or None)


def _selected_tier_check(wanted: str, tier: Any) -> Check:
    tier.close()  # starting it has left a launcher process
    isolation = tier.isolation
    gaps = "; ".join(isolation.gaps) or "nothing"
    found = f"{wanted}: {isolation.tier} works. Not covered: {gaps}"
    if isolation.isolates:
        return Check("sandbox", "ok", found)
    return Check("sandbox", "warning", found, "agents run as you, with all that you may do")


def _limits_check(probe: TierProbe) -> Check:
    from loopat_jupyter.sandboxes.runtime.limits import limits_in_force

    limits = limits_in_force(probe.tier, probe.controllers)
    return Check("limits", "info", "; ".join(f"{one.limit}: {one.by}" for one in limits))
