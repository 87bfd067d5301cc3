"""The outcome of a tool call, and its limits."""

from __future__ import annotations

from dataclasses import dataclass

from ...loops.ports.engine import DeniedBy

RESULT_LIMIT = 100 * 1024


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """Times in seconds. ``output``: bytes of UTF-8 of one result that a model gets. The output of
    Bash has the sandbox's limit instead, beyond which the whole is kept in a file."""

    bash_timeout: float = 120.0
    bash_timeout_max: float = 600.0
    output: int = RESULT_LIMIT


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """``text`` is what the model sees; ``refused`` are destinations that the network refused.

    ``denied_by``: who denied the call, where it did not run for that reason.
    """

    ok: bool
    text: str
    refused: tuple[str, ...] = ()
    denied_by: DeniedBy | None = None


def truncate_middle(text: str, limit: int = RESULT_LIMIT) -> str:
    """``text``, its middle left out where it is longer than ``limit`` bytes."""
    if len(text) * 4 <= limit:
        return text
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    half = (limit - 200) // 2
    head = data[:half].decode("utf-8", "ignore")
    tail = data[-half:].decode("utf-8", "ignore")
    return f"{head}\n… ({len(data) - 2 * half} bytes left out here) …\n{tail}"
