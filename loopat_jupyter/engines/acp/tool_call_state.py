"""One tool call of the agent, as its updates tell it bit by bit.

Agents announce a call before they know its input. Here it is announced once, when it runs, is asked
about or has ended, so that its one event says what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..models.sanitize import ID_LIMIT, replace_invalid
from .content_blocks import diffs_of, exit_code, result_text
from .tool_names import normalize_input, tool_name

UNSAID = "The agent did not say how this ended."
TITLE_LIMIT = 200


@dataclass(slots=True)
class ToolCallState:
    """``id`` is ours; ``kind``, ``title`` and ``status`` are the agent's words."""

    id: str
    kind: str = ""
    title: str = ""
    status: str = "pending"
    first_title: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    locations: list[str] = field(default_factory=list)
    content: Any = None
    output: Any = None
    tool: str = ""
    asked: int = 0
    asked_itself: bool = False
    granted: bool = False
    denied: str | None = None
    ended: bool = False

    def merge(self, update: Mapping[str, Any]) -> None:
        """Take what ``update`` says; what it does not mention stays."""
        self.kind = _text(update.get("kind")) or self.kind
        self.status = _text(update.get("status")) or self.status
        self.title = _text(update.get("title")) or self.title
        self.first_title = self.first_title or self.title
        given = update.get("rawInput")
        if isinstance(given, Mapping) and given:
            self.given = given
        if isinstance(update.get("content"), list):
            self.content = update["content"]
        if update.get("rawOutput") is not None:
            self.output = update["rawOutput"]
        self.locations = paths_of(update) or self.locations

    def ask(self, request: Mapping[str, Any]) -> None:
        """It is asked about, maybe before it was heard of. A request may be about something
        else that the call needs, which does not change what the call is."""
        if not self.kind or request.get("kind") in (None, self.kind):
            given = request.get("rawInput")
            known = self.given
            title = None if self.title else request.get("title")
            self.merge({**request, "status": None, "title": title})
            self.given = {**known, **given} if isinstance(given, Mapping) else known
            self.asked_itself = True
        self.asked += 1

    @property
    def announced(self) -> bool:
        return bool(self.tool)

    @property
    def input(self) -> dict[str, Any]:
        return normalize_input(self.given, self.locations, diffs_of(self.content))

    def name(self) -> str:
        """The tool's name; the same from when it was first asked for."""
        self.tool = self.tool or tool_name(self.kind, self.first_title, self.input)
        return self.tool

    def outcome(self) -> tuple[bool, str]:
        """Whether it went well, and what came of it."""
        text = result_text(self.content, self.output)
        if self.denied is not None:
            return False, self.denied
        if self.status not in ("completed", "failed"):
            return False, UNSAID
        code = exit_code(self.output)
        if code:
            return False, f"{text}\nexit code {code}"
        return self.status == "completed", text

    def end(self) -> None:
        """It is over; what it carried is not needed any more."""
        self.ended = True
        self.given, self.content, self.output = {}, None, None


def call_id(sent: str, number: int) -> str:
    """The agent's id where it can be ours too."""
    clean = replace_invalid(sent).strip()
    return clean if 0 < len(clean) <= ID_LIMIT else f"acp_{number}"


def paths_of(update: Mapping[str, Any]) -> list[str]:
    """The files that an update or a request names as its locations."""
    locations = update.get("locations")
    found = [
        one.get("path")
        for one in (locations if isinstance(locations, list) else ())
        if isinstance(one, Mapping)
    ]
    return [path for path in found if isinstance(path, str) and path]


def _text(value: Any) -> str:
    return replace_invalid(value)[:TITLE_LIMIT] if isinstance(value, str) else ""
