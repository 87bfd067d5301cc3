"""Engines and tiers of other distributions: found by name, never harmful."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from traitlets import TraitError

from loopat_jupyter.config import EngineConfig
from loopat_jupyter.engines import plugin as engines
from loopat_jupyter.engines.plugin import EngineSetup
from loopat_jupyter.engines.registry import EngineUnavailable, select_engines
from loopat_jupyter.entry_points import installed_plugins
from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.engine import Turn
from loopat_jupyter.sandboxes import registry as sandboxes
from loopat_jupyter.sandboxes.registry import probe_tiers, select_tier
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings
from tests.extending.distributions import write_metadata
from tests.support.caller import Caller, Recorder
from tests.support.server import JupyterServer

ROOT = Path(__file__).parents[2]
ENGINES, TIERS = "loopat_jupyter.engines", "loopat_jupyter.sandboxes"

BROKEN_ENGINES = {
    "gone": ("no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "empty": ("broken_plugins", "it has no function make_engine"),
    "raises": ("broken_plugins:raises", "make_engine failed with RuntimeError: no licence"),
    "shapeless": ("broken_plugins:shapeless", "what make_engine returns has no durable_choices"),
    "alias": ("broken_plugins:alias", "its engine must have the name 'alias'"),
}
BROKEN_TIERS = {
    "gone": ("no_such_module:try_it", "ModuleNotFoundError: No module named 'no_such_module'"),
    "missing": ("broken_plugins:no_such_function", "AttributeError"),
    "noun": ("broken_plugins:NOUN", "it is not a function"),
    "raises": ("broken_plugins:try_raises", "it failed with OSError: no such device"),
    "shapeless": ("broken_plugins:try_shapeless", "it does not return an Attempt"),
    "alias": ("broken_plugins:try_alias", "its tier must have the name 'alias'"),
}
MODULE = """
from types import SimpleNamespace

from loopat_jupyter.sandboxes.runtime.probe import Attempt, TierProbe

NOUN = 1


def raise_error(error):
    raise error


raises = SimpleNamespace(make_engine=lambda setup: raise_error(RuntimeError("no licence")))
shapeless = SimpleNamespace(make_engine=lambda setup: object())


class Other:
    name = "other"
    durable_choices = run = prepare = close_loop = close = None


alias = SimpleNamespace(make_engine=lambda setup: Other())


def try_raises(settings):
    raise OSError("no such device")


def try_shapeless(settings):
    return True


def try_alias(settings):
    return Attempt(None, TierProbe("other", False, "it never works"))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with a distribution all of whose entry points are broken."""
    site = tmp_path / "site"
    values = {
        ENGINES: {name: value for name, (value, _) in BROKEN_ENGINES.items()},
        TIERS: {name: value for name, (value, _) in BROKEN_TIERS.items()},
    }
    write_metadata(site, "broken-plugins", "1.0", values)
    (site / "broken_plugins.py").write_text(MODULE)
    return site


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "broken_plugins", raising=False)


async def no_instructions(turn: Turn) -> str:
    return ""


# --------------------------------------------------------------------------- the package's own


def test_pyproject_declares_the_package_s_own_engines_and_tiers() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared[ENGINES] == engines.OWN_ENGINES
    assert declared[TIERS] == sandboxes.OWN_TIERS
    assert (engines.GROUP, sandboxes.GROUP) == (ENGINES, TIERS)


@pytest.mark.parametrize("group", [ENGINES, TIERS])
def test_nobody_else_can_take_a_name_of_the_package_s_own(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    group: str,
) -> None:
    own = engines.OWN_ENGINES if group == ENGINES else sandboxes.OWN_TIERS
    theirs = {"auto": "broken_plugins:auto", next(iter(own)): "broken_plugins:first"}
    write_metadata(tmp_path / "site", "greedy", "1.0", {group: theirs})
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = installed_plugins(group, own)
    assert {name: plugin.entry.value for name, plugin in found.items()} == own
    assert len(caplog.records) == 2
    assert all("of the distribution greedy" in record.message for record in caplog.records)


def test_nothing_of_a_tier_or_an_engine_is_imported_before_it_is_tried() -> None:
    code = (
        "import sys, loopat_jupyter.extension; "
        "print([name for name in sys.modules if name.startswith('loopat_jupyter.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("loopat_jupyter.") for name in re.findall(r"'(.*?)'", done.stdout)}
    assert {"engines.registry", "sandboxes.registry"} <= loaded
    late = r"engines\.(builtin|claude|acp|models|agents|gateway)|sandboxes\.(bubblewrap|landlock"
    late += (
        r"|podman|none|launcher|inside|runtime\.(sandbox|seccomp|mounts)|proxy\.(server|egress))"
    )
    assert [name for name in sorted(loaded) if re.match(late, name)] == []


# --------------------------------------------------------------------------- settings


def test_a_setting_may_name_what_is_installed_and_lists_it_otherwise(installed: None) -> None:
    config = EngineConfig(engine="gone", sandbox="gone")
    assert (config.engine, config.sandbox) == ("gone", "gone")
    with pytest.raises(TraitError) as caught:
        EngineConfig(engine="gpt")
    assert str(caught.value) == (
        "LoopatExtension.engine: there is no engine 'gpt'. Installed: auto, builtin, claude, acp, "
        "alias, empty, gone, raises, shapeless."
    )
    with pytest.raises(TraitError) as caught:
        EngineConfig(sandbox="chroot")
    assert str(caught.value) == (
        "LoopatExtension.sandbox: there is no sandbox 'chroot'. Installed: auto, bubblewrap, "
        "landlock, podman, none, alias, gone, missing, noun, raises, shapeless."
    )


@pytest.mark.parametrize("setting", ["sandbox=chroot", "default_permission_mode=yolo"])
async def test_a_setting_that_is_not_valid_keeps_the_extension_from_loading_with_the_defaults(
    new_server: Callable[..., JupyterServer], setting: str
) -> None:
    server = new_server(options=[f"--LoopatExtension.{setting}"]).start()
    assert setting.partition("=")[2] in server.wait_log("error linking extension")
    assert "one of its settings is not valid" in server.log
    assert "loopat_jupyter | extension was successfully loaded" not in server.log
    assert not (server.home / "loopat.db").exists()


# --------------------------------------------------------------------------- broken engines


def test_broken_engines_cost_a_line_each_and_the_others_serve(
    installed: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = select_engines("builtin", EngineSetup(tmp_path, no_instructions))
    assert registry.named("builtin") is not None
    lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == len(BROKEN_ENGINES)
    for name, (_, why) in BROKEN_ENGINES.items():
        assert registry.named(name) is None
        (line,) = [line for line in lines if line.startswith(f"The engine {name!r} of the ")]
        assert "distribution broken-plugins" in line
        assert why in line


@pytest.mark.parametrize("name", BROKEN_ENGINES)
def test_a_broken_engine_that_is_asked_for_says_what_is_wrong(
    installed: None, tmp_path: Path, name: str
) -> None:
    with pytest.raises(EngineUnavailable, match=r'LoopatExtension\.engine to "auto"') as caught:
        select_engines(name, EngineSetup(tmp_path, no_instructions))
    assert BROKEN_ENGINES[name][1] in caught.value.message


# --------------------------------------------------------------------------- broken tiers


@pytest.mark.parametrize("name", BROKEN_TIERS)
def test_a_broken_tier_that_is_asked_for_says_what_is_wrong(
    installed: None, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SandboxSpawnFailed, match=f"The sandbox {name} does not work") as caught:
        select_tier(name, SandboxSettings(run_dir=tmp_path / "run"))
    assert BROKEN_TIERS[name][1] in caught.value.message
    assert len(caplog.records) == 1


def test_the_doctor_is_told_about_broken_tiers_too(installed: None, tmp_path: Path) -> None:
    probes = {p.tier: p for p in probe_tiers(SandboxSettings(run_dir=tmp_path / "run"))}
    assert list(probes) == [*sandboxes.OWN_TIERS, *sorted(BROKEN_TIERS)]
    for name, (_, why) in BROKEN_TIERS.items():
        assert not probes[name].works
        assert why in probes[name].detail


# --------------------------------------------------------------------------- a server, the doctor


async def test_a_server_serves_beside_broken_entry_points(
    site: Path, new_server: Callable[..., JupyterServer], recorder: Recorder
) -> None:
    server = new_server(env={"PYTHONPATH": str(site)}, model={}).start()
    async with Caller(server, recorder, headers=server.session) as caller:
        loop = await caller.create()
        assert (loop["engine"], loop["sandbox"] in sandboxes.OWN_TIERS) == ("builtin", True)
        assert (await caller.turn(loop["id"], "!true"))[-1].name == "done"
        await recorder.settle()
    for name in BROKEN_ENGINES:
        assert len(re.findall(f"The engine '{name}' of the distribution", server.log)) == 1
    assert "Traceback" not in server.log


def test_the_doctor_has_a_line_for_each_broken_entry_point(site: Path, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "PATH": str(Path(sys.executable).parent)}
    env |= {"LOOPAT_HOME": str(tmp_path / "home"), "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", "from loopat_jupyter.cli import main; main()", "doctor", "--json"],
        capture_output=True,
        text=True,
        env=env,
    )
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["engine"]["found"].startswith("builtin: ")
    for name, (_, why) in BROKEN_ENGINES.items():
        assert checks[f"engine {name}"]["state"] == "warning"
        assert why in checks[f"engine {name}"]["found"]
        assert "broken-plugins" in checks[f"engine {name}"]["fix"]
    for name, (_, why) in BROKEN_TIERS.items():
        assert why in checks[f"tier {name}"]["found"]
