"""Does a sandbox work here? Tried for real: one is started, runs a command, and is gone."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ._checks import Check, State

if TYPE_CHECKING:
    from loopat_jupyter.extension import LoopatExtension
    from loopat_jupyter.loops.ports import Sandbox
    from loopat_jupyter.sandboxes.base import SandboxSettings

TIERS = ("bubblewrap", "landlock", "podman")


def sandbox_checks(extension: LoopatExtension | None, home: Path) -> list[Check]:
    """The tier that would serve, really started; then every other tier there is."""
    wanted = extension.sandbox if extension is not None else "auto"
    chosen, tier = asyncio.run(_probe(wanted, extension, home))
    state: State = "ok" if tier is not None else "bad"
    fix = None if tier is not None else "without a sandbox no turn can run"
    if tier == "none":
        state, fix = "warning", "agents run as you, with all that you may do"
    checks = [Check("sandbox", state, f"{wanted}: {chosen}", fix)]
    for name in TIERS:
        if name not in (wanted, tier):
            found, proven = asyncio.run(_probe(name, extension, home))
            checks.append(
                Check(f"tier {name}", "info", found if proven == name else f"no: {found}")
            )
    return checks


async def _probe(
    name: str, extension: LoopatExtension | None, home: Path
) -> tuple[str, str | None]:
    """Start a sandbox of tier ``name`` and run a command in it: what came out, and its tier."""
    from loopat_jupyter.loops.errors import LoopatError
    from loopat_jupyter.loops.ports import SandboxSpec
    from loopat_jupyter.sandboxes.select import select_tier

    with tempfile.TemporaryDirectory(prefix="loopat-doctor-") as directory:
        run, workdir, inside = (Path(directory, part) for part in ("run", "workdir", "home"))
        for path in (run, workdir, inside):
            path.mkdir()
        try:
            tier = select_tier(name, _settings(extension, run, home))
        except LoopatError as error:
            return error.message, None
        found = tier.isolation.tier
        if name not in ("auto", found):
            return "not in this version", None
        try:
            took = await _run_one(tier.create(SandboxSpec("loop_doctor", workdir, inside)))
        except LoopatError as error:
            return error.message, None
        finally:
            close = getattr(tier, "close", None)
            if close is not None:
                close()
    gaps = "; ".join(tier.isolation.gaps)
    return f"{found} works, ready in {took * 1000:.0f} ms. Not covered: {gaps or 'nothing'}", found


async def _run_one(sandbox: Sandbox) -> float:
    """Seconds from nothing to a command that ran."""
    from loopat_jupyter.loops.errors import SandboxSpawnFailed

    began = time.perf_counter()
    try:
        await sandbox.start()
        result = await sandbox.run("true", timeout=20)
        if result.exit_code != 0:
            raise SandboxSpawnFailed(f"a command inside failed: {result.output.strip()}")
        return time.perf_counter() - began
    finally:
        await sandbox.stop()


def _settings(extension: LoopatExtension | None, run: Path, home: Path) -> SandboxSettings:
    from loopat_jupyter.sandboxes.base import SandboxSettings

    if extension is None:
        return SandboxSettings(run_dir=run, masks=(home,))
    return SandboxSettings(
        run_dir=run,
        masks=(home,),
        read_only_paths=tuple(Path(path) for path in extension.sandbox_read_only_paths),
        sandbox_uid=extension.sandbox_uid,
    )
