"""The calls of one turn: each announced once, each given one result, under an id of its own.

The CLI's id of a call is the model's. Models repeat ids; a second call under an id that already has
its result is another call, and gets another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...loops.ports.engine import TurnHost
from ..models.sanitize import ID_LIMIT, replace_invalid, sanitize_value
from ..tools.outcome import truncate_middle
from .text_stream import blocks_of
from .tool_kinds import kind_of

UNPARSED = "__unparsedToolInput"


@dataclass(slots=True)
class TrackedCall:
    """``name`` is what the host knows the call by; ``parent`` the CLI's id of the sub-agent.
    ``noted``: that it was started is in the journal."""

    name: str
    tool: str
    sent: Mapping[str, Any] | str
    parent: str | None
    running: bool = False
    waiting: bool = False
    ended: bool = False
    journaled: bool = False
    noted: bool = False


class ToolCallTracker:
    def __init__(self) -> None:
        self._entries: dict[str, TrackedCall] = {}
        self._agents: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._count = 0

    def __getitem__(self, call_id: str) -> TrackedCall:
        return self._entries[call_id]

    def find(self, call_id: str) -> TrackedCall | None:
        """``None`` for a call that was not announced, or has its result."""
        entry = self._entries.get(call_id)
        return None if entry is None or entry.ended else entry

    def remember(self, call_id: str, name: str) -> None:
        """The host knows this call already, from before the CLI was started again."""
        self._names[call_id] = name

    def forget(self, call_id: str) -> None:
        """The id was used in this turn before the CLI was started again; its call is over."""
        self._count += 1
        self._entries[call_id] = TrackedCall(call_id, "", "", None, ended=True)

    def started_agent(self, agent_id: str, call_id: str) -> None:
        self._agents[agent_id] = call_id

    def parent(self, agent_id: str | None) -> str | None:
        """The call that started a sub-agent."""
        return self._agents.get(agent_id, agent_id) if agent_id else None

    async def announce(
        self,
        call_id: str,
        tool: str,
        sent: Mapping[str, Any] | str,
        parent: str | None,
        host: TurnHost,
    ) -> TrackedCall:
        """Idempotent while the call has no result."""
        entry = self._entries.get(call_id)
        if entry is not None and not entry.ended:
            return entry
        self._count += 1
        name = self._names.pop(call_id, "")
        if not name:
            new = entry is None and call_id
            name = call_id[:ID_LIMIT] if new else f"{call_id[:ID_LIMIT]}-{self._count}"
        self._entries[call_id] = entry = TrackedCall(name, tool, _plain(sent), parent)
        await host.tool_call(entry.name, tool, entry.sent)
        return entry

    async def result(self, call_id: str, ok: bool, text: str, host: TurnHost) -> TrackedCall | None:
        """``None`` for a call that was not announced, or has its result."""
        entry = self.find(call_id)
        if entry is None:
            return None
        entry.running = entry.waiting = False
        entry.ended = True
        await host.tool_result(entry.name, ok, truncate_middle(text))
        return entry

    async def end_all(self, text: str, host: TurnHost) -> None:
        """Whatever has no result by now gets none from the CLI any more."""
        for call_id in list(self._entries):
            await self.result(call_id, False, text, host)

    @property
    def resting(self) -> bool:
        """A person is waited for, and nothing else is going on."""
        waiting = [entry for entry in self._entries.values() if entry.waiting]
        above = {parent for entry in waiting for parent in self._above(entry)}
        running = (ident for ident, entry in self._entries.items() if entry.running)
        return bool(waiting) and all(ident in above for ident in running)

    def start_unnoted(self) -> list[str]:
        """The calls that run though the journal does not know it; from here on it is to."""
        found = [
            (ident, entry)
            for ident, entry in self._entries.items()
            if entry.running and not entry.noted
        ]
        for _, entry in found:
            entry.noted = True
        return [ident for ident, entry in found if kind_of(entry.tool) != "read"]

    def root(self, call_id: str) -> str:
        """The call of the main agent that this one belongs to: itself, or a sub-agent's."""
        return [call_id, *self._above(self._entries[call_id])][-1]

    def _above(self, entry: TrackedCall) -> list[str]:
        found: list[str] = []
        while entry.parent is not None and entry.parent not in found:
            found.append(entry.parent)
            if entry.parent not in self._entries:
                break
            entry = self._entries[entry.parent]
        return found

    @property
    def any_running(self) -> bool:
        return any(entry.running for entry in self._entries.values())

    @property
    def anything_open(self) -> bool:
        return any(not entry.ended for entry in self._entries.values())


def _plain(sent: Mapping[str, Any] | str) -> Mapping[str, Any] | str:
    """An input that was no JSON object, as the model sent it."""
    if isinstance(sent, str):
        return replace_invalid(sent)
    unparsed = sent.get(UNPARSED)
    if isinstance(unparsed, Mapping) and isinstance(unparsed.get("raw"), str):
        return replace_invalid(str(unparsed["raw"]))
    clean: Mapping[str, Any] = sanitize_value(sent)
    return clean


def text_of_result(block: Mapping[str, Any]) -> str:
    """A ``tool_result`` block as the agent reads it; a picture is named, not shown."""
    parts = []
    for piece in blocks_of(block):
        text = piece.get("text")
        parts.append(text if isinstance(text, str) else f"[{piece.get('type', 'something')}]")
    return "\n".join(parts)
