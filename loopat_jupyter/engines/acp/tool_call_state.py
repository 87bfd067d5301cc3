"""One tool call of an agent, put together from its updates.

Agents announce a call before they know its input. Here it is announced once, when it runs, is asked
about or has ended, so that its one event has the whole input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...loops.text import sanitize_text
from ..models.sanitize import ID_LIMIT
from .content_blocks import diffs_of, exit_code, result_text
from .tool_names import normalize_input, tool_name

NO_OUTCOME = "The agent did not say how this ended."
TITLE_LIMIT = 200


@dataclass(slots=True)
class ToolCallState:
    """``id`` is the id of the loop's events; ``kind``, ``title`` and ``status`` are the agent's.

    ``raw_input`` is the agent's input. ``requests`` counts the permission requests about the call;
    ``asked_itself``: one of them was about the call itself. ``granted``: one was allowed;
    ``denied``: why one was not.
    """

    id: str
    kind: str = ""
    title: str = ""
    status: str = "pending"
    first_title: str = ""
    raw_input: Mapping[str, Any] = field(default_factory=dict)
    locations: list[str] = field(default_factory=list)
    content: Any = None
    output: Any = None
    tool: str = ""
    requests: int = 0
    asked_itself: bool = False
    granted: bool = False
    denied: str | None = None
    ended: bool = False

    def merge(self, update: Mapping[str, Any]) -> None:
        """Take over the fields of ``update``; those that it does not have stay."""
        self.kind = _text(update.get("kind")) or self.kind
        self.status = _text(update.get("status")) or self.status
        self.title = _text(update.get("title")) or self.title
        self.first_title = self.first_title or self.title
        raw_input = update.get("rawInput")
        if isinstance(raw_input, Mapping) and raw_input:
            self.raw_input = raw_input
        if isinstance(update.get("content"), list):
            self.content = update["content"]
        if update.get("rawOutput") is not None:
            self.output = update["rawOutput"]
        self.locations = paths_of(update) or self.locations

    def merge_request(self, request: Mapping[str, Any]) -> None:
        """Take over the call of a permission request, which may be its first mention. A request
        of another kind is about something that the call needs, and does not change the call."""
        if not self.kind or request.get("kind") in (None, self.kind):
            raw_input = request.get("rawInput")
            known = self.raw_input
            title = None if self.title else request.get("title")
            self.merge({**request, "status": None, "title": title})
            self.raw_input = {**known, **raw_input} if isinstance(raw_input, Mapping) else known
            self.asked_itself = True
        self.requests += 1

    @property
    def announced(self) -> bool:
        return bool(self.tool)

    @property
    def input(self) -> dict[str, Any]:
        return normalize_input(self.raw_input, self.locations, diffs_of(self.content))

    def name(self) -> str:
        """The tool's name; fixed when it is first asked for, which is when it is announced."""
        self.tool = self.tool or tool_name(self.kind, self.first_title, self.input)
        return self.tool

    def outcome(self) -> tuple[bool, str]:
        """Whether the call succeeded, and its result."""
        text = result_text(self.content, self.output)
        if self.denied is not None:
            return False, self.denied
        if self.status not in ("completed", "failed"):
            return False, NO_OUTCOME
        code = exit_code(self.output)
        if code:
            return False, f"{text}\nexit code {code}"
        return self.status == "completed", text

    def end(self) -> None:
        """Mark the call as ended, and release what it held."""
        self.ended = True
        self.raw_input, self.content, self.output = {}, None, None


def event_call_id(agent_id: str, number: int) -> str:
    """The id for the loop's events: the agent's, where that is valid there."""
    clean = sanitize_text(agent_id).strip()
    return clean if 0 < len(clean) <= ID_LIMIT else f"acp_{number}"


def paths_of(update: Mapping[str, Any]) -> list[str]:
    """The files that an update or a request has as its locations."""
    locations = update.get("locations")
    found = [
        location.get("path")
        for location in (locations if isinstance(locations, list) else ())
        if isinstance(location, Mapping)
    ]
    return [path for path in found if isinstance(path, str) and path]


def _text(value: Any) -> str:
    return sanitize_text(value)[:TITLE_LIMIT] if isinstance(value, str) else ""
