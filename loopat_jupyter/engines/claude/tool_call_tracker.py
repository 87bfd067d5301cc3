"""The tool calls of one turn: each is announced once and gets one result, under an id of its own.

The CLI's id of a call is the model's, and models repeat ids: a second call under an id that already
has its result is another call, and gets another id in the loop's events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...loops.ports.engine import TurnHost
from ...loops.text import sanitize_text
from ..models.sanitize import ID_LIMIT, sanitize_value
from ..tools.outcome import truncate_middle
from .text_stream import blocks_of
from .tool_kinds import kind_of

UNPARSED = "__unparsedToolInput"
"""The field in which the CLI passes on an input that is no JSON object."""


@dataclass(slots=True)
class TrackedCall:
    """``event_id`` is the call's id in the loop's events; ``parent`` the CLI's id of the call that
    started the sub-agent which made this one.

    ``journaled``: it is in the journal; ``start_journaled``: so is that it was started.
    """

    event_id: str
    tool: str
    input: Mapping[str, Any] | str
    parent: str | None
    running: bool = False
    waiting: bool = False
    ended: bool = False
    journaled: bool = False
    start_journaled: bool = False


class ToolCallTracker:
    """All calls of one turn, by the CLI's ids."""

    def __init__(self) -> None:
        self._calls: dict[str, TrackedCall] = {}
        self._subagents: dict[str, str] = {}
        self._known_event_ids: dict[str, str] = {}
        self._count = 0

    def find(self, call_id: str) -> TrackedCall | None:
        """``None`` for a call that was not announced, or has its result."""
        call = self._calls.get(call_id)
        return None if call is None or call.ended else call

    def restore_announced(self, call_id: str, event_id: str) -> None:
        """The call was announced under ``event_id`` before the CLI was started again."""
        self._known_event_ids[call_id] = event_id

    def restore_ended(self, call_id: str) -> None:
        """The id was used in this turn before the CLI was started again; its call is over."""
        self._count += 1
        self._calls[call_id] = TrackedCall(call_id, "", "", None, ended=True)

    def add_subagent(self, agent_id: str, call_id: str) -> None:
        self._subagents[agent_id] = call_id

    def parent_of(self, agent_id: str | None) -> str | None:
        """The call that started a sub-agent; ``None`` for the main agent."""
        return self._subagents.get(agent_id, agent_id) if agent_id else None

    async def announce(
        self,
        call_id: str,
        tool: str,
        tool_input: Mapping[str, Any] | str,
        parent: str | None,
        host: TurnHost,
    ) -> TrackedCall:
        """Report the call to the host. Idempotent while the call has no result."""
        call = self._calls.get(call_id)
        if call is not None and not call.ended:
            return call
        self._count += 1
        event_id = self._known_event_ids.pop(call_id, "")
        if not event_id:
            new = call is None and call_id
            event_id = call_id[:ID_LIMIT] if new else f"{call_id[:ID_LIMIT]}-{self._count}"
        call = TrackedCall(event_id, tool, _model_input(tool_input), parent)
        self._calls[call_id] = call
        await host.tool_call(call.event_id, tool, call.input)
        return call

    async def record_result(
        self, call_id: str, ok: bool, text: str, host: TurnHost
    ) -> TrackedCall | None:
        """Report the result to the host. ``None``, and nothing is done, for a call that was not
        announced or has its result."""
        call = self.find(call_id)
        if call is None:
            return None
        call.running = call.waiting = False
        call.ended = True
        await host.tool_result(call.event_id, ok, truncate_middle(text))
        return call

    async def end_all(self, text: str, host: TurnHost) -> None:
        """Give every open call the failed result ``text``."""
        for call_id in list(self._calls):
            await self.record_result(call_id, False, text, host)

    @property
    def can_suspend(self) -> bool:
        """Whether a person is waited for and nothing else goes on: no call runs but those of
        sub-agents in which another call waits."""
        waiting = [call for call in self._calls.values() if call.waiting]
        ancestors = {parent for call in waiting for parent in self._ancestors(call)}
        running = (call_id for call_id, call in self._calls.items() if call.running)
        return bool(waiting) and all(call_id in ancestors for call_id in running)

    def take_unjournaled_starts(self) -> list[str]:
        """The running calls that may change something and whose start is not in the journal. They
        are returned once; the caller writes the entries."""
        found = [
            (call_id, call)
            for call_id, call in self._calls.items()
            if call.running and not call.start_journaled
        ]
        for _, call in found:
            call.start_journaled = True
        return [call_id for call_id, call in found if kind_of(call.tool) != "read"]

    def root_of(self, call_id: str) -> str:
        """The call of the main agent that this one belongs to: itself, or a sub-agent's."""
        return [call_id, *self._ancestors(self._calls[call_id])][-1]

    def _ancestors(self, call: TrackedCall) -> list[str]:
        found: list[str] = []
        while call.parent is not None and call.parent not in found:
            found.append(call.parent)
            if call.parent not in self._calls:
                break
            call = self._calls[call.parent]
        return found

    @property
    def any_running(self) -> bool:
        return any(call.running for call in self._calls.values())

    @property
    def any_open(self) -> bool:
        return any(not call.ended for call in self._calls.values())


def _model_input(tool_input: Mapping[str, Any] | str) -> Mapping[str, Any] | str:
    """The input as the model sent it: a string where it was no JSON object."""
    if isinstance(tool_input, str):
        return sanitize_text(tool_input)
    unparsed = tool_input.get(UNPARSED)
    if isinstance(unparsed, Mapping) and isinstance(unparsed.get("raw"), str):
        return sanitize_text(str(unparsed["raw"]))
    clean: Mapping[str, Any] = sanitize_value(tool_input)
    return clean


def text_of_result(block: Mapping[str, Any]) -> str:
    """A ``tool_result`` block as the agent reads it; what is no text is named by its type."""
    parts = []
    for item in blocks_of(block):
        text = item.get("text")
        parts.append(text if isinstance(text, str) else f"[{item.get('type', 'something')}]")
    return "\n".join(parts)
