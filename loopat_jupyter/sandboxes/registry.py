"""Which sandbox tier serves: the strongest that a real probe proves, or the configured one.

Tiers are entry points of the group :data:`GROUP`. Such an entry point names a function that tries
the tier on this host: it takes :class:`~.runtime.settings.SandboxSettings` and returns an
:class:`~.runtime.probe.Attempt`. A tier's modules are imported when it is tried, not before.

``auto`` tries the package's own tiers that isolate, and never falls to ``none``: without a tier
that works, loops refuse to start, and the message says how to fix the host. A tier of another
distribution serves only where ``LoopatExtension.sandbox`` names it. :func:`probe_tiers` tries all
of them for ``loopat doctor``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from loopat_jupyter.entry_points import Plugin, PluginError, describe, installed_plugins
from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxTier
from loopat_jupyter.sandboxes.runtime.probe import Attempt, TierProbe
from loopat_jupyter.sandboxes.runtime.reaper import reap_leftovers
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

GROUP = "loopat_jupyter.sandboxes"
OWN_TIERS = {
    "bubblewrap": "loopat_jupyter.sandboxes.bubblewrap.probe:try_bubblewrap",
    "landlock": "loopat_jupyter.sandboxes.landlock.probe:try_landlock",
    "podman": "loopat_jupyter.sandboxes.podman.probe:try_podman",
    "none": "loopat_jupyter.sandboxes.none:try_none",
}
"""The package's own tiers: name to entry point. pyproject.toml declares the same."""

AUTOMATIC = ("bubblewrap", "landlock")
"""What ``auto`` tries, strongest first."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TierPlugin:
    """A tier that may be tried."""

    plugin: Plugin

    def attempt(self, settings: SandboxSettings) -> Attempt:
        """Try the tier. Blocks; raises nothing: a plugin that is broken does not work."""
        name = self.plugin.name
        try:
            return self._attempt(settings)
        except PluginError as error:
            log.warning("The sandbox %s", error.message)
            log.debug("%s: where it failed", name, exc_info=error)
            return Attempt(None, TierProbe(name, False, error.message.rstrip(".")))

    def _attempt(self, settings: SandboxSettings) -> Attempt:
        attempt_tier = self.plugin.load()
        if not callable(attempt_tier):
            raise self.plugin.error("it is not a function")
        try:
            found = attempt_tier(settings)
        except Exception as error:
            raise self.plugin.error(f"it failed with {describe(error)}") from error
        if not isinstance(found, Attempt):
            raise self.plugin.error("it does not return an Attempt")
        name = self.plugin.name
        if found.probe.tier != name or (found.tier and found.tier.isolation.tier != name):
            raise self.plugin.error(f"its tier must have the name {name!r}")
        return found


def installed_tiers() -> dict[str, TierPlugin]:
    """The tiers that are declared on this machine, by name, the package's own first."""
    plugins = installed_plugins(GROUP, OWN_TIERS)
    return {name: TierPlugin(plugin) for name, plugin in plugins.items()}


def tier_names() -> list[str]:
    """What ``LoopatExtension.sandbox`` may be."""
    return ["auto", *installed_plugins(GROUP, OWN_TIERS)]


def select_tier(name: str, settings: SandboxSettings) -> SandboxTier:
    """The tier called ``name`` (``auto``: the strongest that works). Blocks for some 50 ms.

    Raises ``SandboxSpawnFailed`` with what to do about it when it does not work on this host.
    """
    tiers = installed_tiers()
    if name != "auto" and name not in tiers:
        known = ", ".join(("auto", *tiers))
        raise SandboxSpawnFailed(f"There is no sandbox called {name}; there are {known}.")
    failed: list[TierProbe] = []
    for candidate in AUTOMATIC if name == "auto" else (name,):
        attempt = tiers[candidate].attempt(settings)
        if attempt.tier is not None:
            return attempt.tier
        failed.append(attempt.probe)
    raise SandboxSpawnFailed(no_tier_message(name, failed))


def no_tier_message(name: str, failed: list[TierProbe]) -> str:
    first = failed[0]
    what = (
        "No sandbox works on this host" if name == "auto" else f"The sandbox {name} does not work"
    )
    fix = f" To fix it: {first.fix}." if first.fix else ""
    return f"{what}: {first.detail}.{fix} `loopat doctor` shows the details."


def probe_tiers(settings: SandboxSettings) -> list[TierProbe]:
    """What trying each tier shows on this host, strongest first, other distributions' last."""
    found = []
    for tier in installed_tiers().values():
        attempt = tier.attempt(settings)
        if attempt.tier is not None:
            attempt.tier.close()
        found.append(attempt.probe)
    return found


def reap_sandboxes(run_dir: Path) -> None:
    """End what an earlier server of this home left running, whatever its tier. Blocks."""
    reap_leftovers(run_dir)
    if next(run_dir.iterdir(), None) is not None:  # records of containers, if of anything
        from loopat_jupyter.sandboxes.podman.containers import reap_containers

        reap_containers(run_dir)
