"""Engines and sandbox tiers as entry points: the package's own and those of other distributions.

Each registry (:mod:`loopat_jupyter.engines.registry`, :mod:`loopat_jupyter.sandboxes.registry`)
has an entry point group and a table of the package's own names. The table comes first: another
distribution cannot replace an engine or a tier of this package by declaring its name, and a
checkout works without installed metadata. Nothing is imported before :meth:`Plugin.load`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .loops.errors import DomainError

log = logging.getLogger(__name__)


class PluginError(DomainError):
    """What an entry point names cannot be used; the message names it, its distribution and why."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point. ``distribution`` is empty for those of this package."""

    entry: EntryPoint
    distribution: str = ""

    @property
    def name(self) -> str:
        return self.entry.name

    def load(self) -> Any:
        """Import the object that the entry point names. Raises :class:`PluginError`."""
        try:
            return self.entry.load()
        except Exception as error:  # whatever a module of somebody else's raises at import
            raise self.error(f"it cannot be loaded: {describe(error)}") from error

    def error(self, why: str) -> PluginError:
        """The error for what is wrong with this plugin; ``why`` is a clause without a full stop."""
        source = f" of the distribution {self.distribution}" if self.distribution else ""
        return PluginError(f"{self.name!r}{source} ({self.entry.value}) cannot be used: {why}.")


def describe(error: BaseException) -> str:
    """An exception in one line: its class and the first line of its message."""
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def installed_plugins(group: str, own: Mapping[str, str]) -> dict[str, Plugin]:
    """All plugins of a group by name: ``own`` (name to entry point value) first, in its order.

    Others follow sorted by name. One whose name is taken, or is ``auto``, is left out and logged.
    """
    found = {name: Plugin(EntryPoint(name, value, group)) for name, value in own.items()}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        if own.get(entry.name) == entry.value:  # this package's own metadata
            continue
        plugin = Plugin(entry, entry.dist.name if entry.dist else "unknown")
        if entry.name in found or entry.name == "auto":
            log.warning("%s", plugin.error("this name is taken").message)
        else:
            found[entry.name] = plugin
    return found
