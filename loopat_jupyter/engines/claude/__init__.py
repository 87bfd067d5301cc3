"""The engine ``claude``: the Claude Agent SDK in the server, its CLI in the loop's sandbox.

* :mod:`.engine` implements the port; :mod:`.cli_process` is the CLI's process, :mod:`.transport`
  its streams, :mod:`.launch` its command and environment, :mod:`.errors` what is said when it or
  its provider fails;
* :mod:`.turn_runner` runs one turn; :mod:`.text_stream`, :mod:`.tool_call_tracker` and
  :mod:`.usage_counter` turn the CLI's messages into the loop's events;
* :mod:`.permission_hook` decides about its calls; :mod:`.tool_kinds` describes its tools;
* :mod:`.journal` is what is stored of a turn; :mod:`.recovery` resumes a turn whose CLI has ended,
  by repairing the session file (:mod:`.session`, :mod:`.session_file`).

Nothing of the SDK is imported here; a server without the extra ``[claude]`` can load this package.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...loops.ports.engine import Engine

if TYPE_CHECKING:
    from ..plugin import EngineSetup

SDK = "claude_agent_sdk"
NOT_IN_IMAGES = (
    "In the sandbox tier podman the Claude CLI is not there by itself: add {folder} to "
    "LoopatExtension.sandbox_read_only_paths, or put a program called claude into the image and "
    'set LoopatExtension.engine to "claude".'
)


def unavailable() -> str | None:
    """Why this engine cannot serve, and what to install; ``None`` where it can."""
    if importlib.util.find_spec(SDK) is None:
        return (
            "The engine 'claude' needs the Claude Agent SDK, which is not installed: "
            "pip install 'loopat-jupyter[claude]'."
        )
    return None


def unsupported_reason(sandbox: str, shown: Sequence[Path]) -> str | None:
    """Why sandboxes of this tier may lack the CLI, and what to do; ``None`` where they have it.

    ``shown``: further paths of the host that every sandbox sees.
    """
    from .launch import bundled_cli

    cli = Path(bundled_cli())
    if sandbox != "podman" or any(cli.is_relative_to(path) for path in shown):
        return None
    return NOT_IN_IMAGES.format(folder=cli.parent)


def make_engine(setup: EngineSetup) -> Engine:
    from ..builtin.engine import EngineLimits
    from .engine import ClaudeEngine

    return ClaudeEngine(setup.home, setup.instructions, EngineLimits(tools=setup.tools))
