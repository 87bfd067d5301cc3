"""Engines and tiers under a real server, for tests that must hold whatever works where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.claude import unavailable
from tests.sandboxes.tiers import TIERS
from tests.support import acp_agent, opencode
from tests.support.mock_model import MockModel, Tool
from tests.support.server import JupyterServer, mock_provider

WAYS = (
    ("builtin", "bubblewrap"),
    ("builtin", "landlock"),
    ("builtin", "podman"),
    ("claude", "bubblewrap"),
    ("claude", "landlock"),
    ("small", "bubblewrap"),
    ("opencode", "bubblewrap"),
)
"""An engine, or an agent of the engine ``acp``; and a tier. ``podman`` has an image of its own, in
which the agents' programs are not."""


def server_for(
    directory: Path, model: MockModel, engine: str, tier: str, key: str
) -> JupyterServer:
    """A server that is not started yet. Skips where there is no such engine or tier here."""
    if reason := TIERS[tier].absent():
        pytest.skip(reason)
    if engine == "claude" and (missing := unavailable()):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    acp = engine in ("small", "opencode")
    options = [
        f"--LoopatExtension.engine={'acp' if acp else engine}",
        f"--LoopatExtension.sandbox={tier}",
    ]
    if image := TIERS[tier].image():
        options.append(f"--LoopatExtension.podman_image={image}")
    config: dict[str, Any] = mock_provider(model.url, key=key)
    if engine == "small":
        config["agents"] = {"small": acp_agent.section()}
    if engine == "opencode":
        program = opencode.find_opencode()
        config["agents"] = {"opencode": opencode.section(program)}
        options.append(f"--LoopatExtension.sandbox_read_only_paths={program.parent}")
    return JupyterServer(directory, model=config, options=options)


def shell(engine: str, command: str) -> Tool:
    """A command as this engine's agent calls it."""
    if engine == "opencode":
        return Tool("bash", {"command": command, "description": "a command"})
    return Tool("Bash", {"command": command})
