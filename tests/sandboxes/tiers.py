"""The tiers that isolate, as the acceptance suite tries them, and what each does not restrict.

A restriction that a tier lacks is named in ``gaps`` with words of the tier's own list of gaps: the
test then checks that the gap is listed, instead of the restriction.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loopat_jupyter.loops.ports.sandbox import SandboxTier
from loopat_jupyter.sandboxes.bubblewrap.tier import BubblewrapTier, find_bwrap
from loopat_jupyter.sandboxes.landlock.ruleset import LandlockUnavailable, kernel_abi
from loopat_jupyter.sandboxes.landlock.tier import LandlockTier
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings
from tests.sandboxes import podman_image

DENIED = re.compile("Read-only|Permission denied|Operation not permitted")
"""The errors of what is forbidden; tiers differ in which of these it is."""


@dataclass(frozen=True)
class Tried:
    """How to make a tier, and why it cannot be made here (``None``: it can)."""

    make: Callable[[SandboxSettings], SandboxTier]
    absent: Callable[[], str | None] = lambda: None
    gaps: Mapping[str, str] = field(default_factory=dict)
    """Test name -> words of the gap in the tier's isolation."""
    not_tried: Mapping[str, str] = field(default_factory=dict)
    """Test name -> why what it tests does not apply to this tier."""
    cycles: int = 200
    """How often a test that looks for what is left behind starts and stops a sandbox. The
    environment variable ``LOOPAT_TEST_CYCLES`` sets it for all of them."""
    image: Callable[[], str] = str
    """The image that a server of the test must be given; empty where the tier needs none."""


def bubblewrap(settings: SandboxSettings) -> BubblewrapTier:
    bwrap = find_bwrap()
    assert bwrap is not None
    return BubblewrapTier(settings, bwrap)


def landlock(settings: SandboxSettings) -> LandlockTier:
    return LandlockTier(settings, kernel_abi())


def no_landlock() -> str | None:
    try:
        kernel_abi()
    except LandlockUnavailable as refusal:
        return f"this kernel offers no Landlock: {refusal}"
    return None


def podman(settings: SandboxSettings) -> SandboxTier:
    return podman_image.tier_with_base(settings)


HOSTS_PERMISSIONS = "the host's permissions apply"
AS_ROOT = {
    "test_a_folder_that_holds_the_home_and_the_runtime_directory_shows_neither": HOSTS_PERMISSIONS,
    "test_folders_are_read_only_or_writable_as_asked": HOSTS_PERMISSIONS,
    "test_a_folders_owners_stay_what_they_are_on_disk": HOSTS_PERMISSIONS,
}
"""What podman lacks as root. test_podman tries both with folders that others may use."""

CYCLES = os.environ.get("LOOPAT_TEST_CYCLES")


def cycles_of(make: Callable[[SandboxSettings], SandboxTier]) -> int:
    """How often to start and stop a sandbox of this tier."""
    if CYCLES:
        return int(CYCLES)
    return next(tried.cycles for tried in TIERS.values() if tried.make is make)


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
    "podman": Tried(
        podman,
        podman_image.why_not_tried,
        AS_ROOT if os.geteuid() == 0 else {},
        {
            "test_only_what_the_hosts_etc_must_show_is_there": "the image's /etc is its own",
            "test_the_usual_tools_work": "the tools are the image's",
            "test_what_a_notebook_imports_can_be_imported": "the packages are the image's",
            "test_what_the_user_installed_can_be_imported_and_run": "the packages are the image's",
            "test_tmp_is_the_sandboxes_own": "the image has its own /var/tmp, read-only",
            "test_the_death_of_the_launcher_ends_its_sandboxes_and_the_next_start_works": (
                "no launcher starts it; test_podman tries the death of conmon"
            ),
            "test_a_file_system_without_mapped_owners_is_bound_plainly_and_said": (
                "it maps no owners"
            ),
        },
        cycles=20,  # each takes half a second
        image=podman_image.image,
    ),
}
"""Every tier that isolates, by name."""
