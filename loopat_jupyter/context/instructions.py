"""The system instructions of a turn: what the agent is told before the conversation.

A short text of this package, then the ``AGENTS.md`` of each of the loop's profiles, in order. The
loop's metadata is never part of it: it belongs to the API's caller.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..loops.ports.engine import Turn
from ..loops.ports.network import Egress

PROFILE_LIMIT = 64 << 10
"""Bytes of a profile's AGENTS.md that are read."""

_BASE = """\
You are an AI agent working in a loop: a conversation bound to a working directory in a sandbox. \
You act through tools. Bash starts in the working directory, and relative paths are relative to \
it; files and background processes outlive the turn. Python is the Jupyter server's own \
environment, so what a notebook can import, you can import. A person may be asked before a tool \
runs; if they deny it, respect that and say how you would go on.
Do what was asked, check that it worked by running it, and say briefly what you did."""

_NO_NETWORK = "There is no network: neither the internet nor this machine's can be reached."
_NETWORK = (
    "There is no network but a proxy, which the environment names (HTTP_PROXY, HTTPS_PROXY). It "
    "lets you reach only: {allowed}."
)

_PLAN = """\
This turn is in plan mode: read and think, change nothing. End with the plan."""


class Instructions:
    """Composes the instructions of a turn when it is called with the turn."""

    def __init__(self, home: Path) -> None:
        self._profiles = home / "profiles"

    async def __call__(self, turn: Turn) -> str:
        return await asyncio.to_thread(self._compose, turn)

    def _compose(self, turn: Turn) -> str:
        parts = [_BASE, _network_text(turn.egress)]
        if turn.folders:
            names = ", ".join(
                f"{folder.name} ({'read and write' if folder.write else 'read only'})"
                for folder in turn.folders
            )
            parts.append(f"The user's own folders in the working directory: {names}.")
        if turn.permission_mode == "plan":
            parts.append(_PLAN)
        parts += filter(None, (self._profile_text(name) for name in turn.profiles))
        return "\n\n".join(parts)

    def _profile_text(self, name: str) -> str:
        try:
            with (self._profiles / name / "AGENTS.md").open("rb") as file:
                text = file.read(PROFILE_LIMIT).decode(errors="replace").strip()
        except OSError:  # a profile need not have one
            return ""
        return text


def _network_text(egress: Egress) -> str:
    if not egress.allowed:
        return _NO_NETWORK
    return _NETWORK.format(allowed=", ".join(map(str, egress.allowed)))
