"""Token counts of a turn: the CLI's own sums, and those of the stream until there are any.

The CLI's ``result`` message has the usage of all its model calls since the last one, with
sub-agents and cost. A turn that waits for a person has no result yet, and its CLI may never write
one; so the counts of the stream are reported when the turn is suspended, and subtracted from the
sums that follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...loops.ports.engine import TurnUsage

_STREAM = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
_SUMS = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")


class UsageCounter:
    """The usage of one turn, reported in parts."""

    def __init__(self) -> None:
        self._counted = [0, 0, 0, 0]
        self._reported = [0, 0, 0, 0]

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Count one event of the provider's stream."""
        if event.get("type") == "message_start":
            message = event.get("message")
            usage = message.get("usage") if isinstance(message, Mapping) else None
            self._add(usage, skip_output=True)
        elif event.get("type") == "message_delta":
            usage = event.get("usage")
            if isinstance(usage, Mapping):
                self._counted[1] += _number(usage.get("output_tokens"))

    def _add(self, usage: Any, *, skip_output: bool) -> None:
        if isinstance(usage, Mapping):
            for index, name in enumerate(_STREAM):
                if not (skip_output and index == 1):
                    self._counted[index] += _number(usage.get(name))

    def at_suspension(self) -> TurnUsage:
        """What was counted since the last report."""
        new = [a - b for a, b in zip(self._counted, self._reported, strict=True)]
        self._reported = list(self._counted)
        return TurnUsage(*new)

    def at_end(self, result: Mapping[str, Any]) -> TurnUsage:
        """The sums of the turn's ``result`` message, less what was reported before."""
        models = result.get("model_usage_since_last_result")
        cost: float | None = None
        sums = [0, 0, 0, 0]
        for usage in models.values() if isinstance(models, Mapping) else ():
            if not isinstance(usage, Mapping):
                continue
            for index, name in enumerate(_SUMS):
                sums[index] += _number(usage.get(name))
            if isinstance(usage.get("costUSD"), int | float):
                cost = (cost or 0.0) + float(usage["costUSD"])
        if not any(sums):
            sums = self._counted
        new = [max(a - b, 0) for a, b in zip(sums, self._reported, strict=True)]
        self._counted, self._reported = [0, 0, 0, 0], [0, 0, 0, 0]
        return TurnUsage(new[0], new[1], new[2], new[3], cost)


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
