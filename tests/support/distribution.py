"""How the tests are spread over pytest-xdist's workers.

A unit of work is a test file, since tests of one file share servers; all of ``tests/hub`` is one
unit, since its files share a JupyterHub. Units begin in the order of the time they take, the
longest first, so that no worker is left alone with a long one at the end. A file says how long it
takes with the marker ``slow(seconds)``, see pyproject.toml; a test may say it for itself alone.
"""

from __future__ import annotations

import os
from collections import Counter

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

ONE_UNIT = ("tests/hub/",)
"""Directories whose files run on one worker, one after the other."""

WORKERS_PER_PROCESSOR = 2
"""Half of a worker's time is waiting for servers, browsers and sandboxes to start and to end."""


APART = ("tests/sandboxes/test_unprivileged.py",)
"""Files whose tests are units of their own: each takes long, and they share nothing."""


def unit_of(nodeid: str) -> str:
    """The unit of work that a test belongs to."""
    file = nodeid.partition("::")[0]
    if file in APART:
        return nodeid
    return next((one for one in ONE_UNIT if file.startswith(one)), file)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests by what their unit takes; within a unit their order stays."""
    seconds: Counter[str] = Counter()
    whole: set[str] = set()
    for item in items:
        module = item.getparent(pytest.Module)
        of_file = module.get_closest_marker("slow") if module is not None else None
        marker = of_file or item.get_closest_marker("slow")
        file = item.nodeid.partition("::")[0]
        if marker is not None and file not in whole:
            seconds[unit_of(item.nodeid)] += marker.args[0]
        if of_file is not None:
            whole.add(file)
    first = {
        unit: place for place, unit in enumerate(dict.fromkeys(unit_of(i.nodeid) for i in items))
    }
    items.sort(key=lambda item: (-seconds[unit := unit_of(item.nodeid)], first[unit]))


def worker_count(config: pytest.Config) -> int | None:
    """How many workers ``-n auto`` and ``-n logical`` start; ``None`` where the user says it."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    logical = config.option.numprocesses == "logical"
    processors = psutil.cpu_count(logical=logical) or psutil.cpu_count() or 1
    return processors * WORKERS_PER_PROCESSOR


class UnitScheduling(LoadScopeScheduling):
    """Gives whole units to workers, in the order of the collected tests."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
