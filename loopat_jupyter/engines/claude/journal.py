"""What a command gave, as the CLI's hooks tell it before its result is stored anywhere.

A turn may rest there, because a person is asked about the network; so it is in the turn's journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..models.sanitize import replace_invalid
from ..tools.outcome import truncate_middle
from .tool_call_tracker import TrackedCall

if TYPE_CHECKING:
    from .cli_process import CommandFinished

RAN, ENDED = "claude_ran", "claude_ended"


def output_of(ran: Mapping[str, Any]) -> str:
    """The text of a hook's input, after a tool that went well or failed."""
    response = ran.get("tool_response", ran.get("error"))
    if isinstance(response, Mapping):
        parts = [response.get("stdout"), response.get("stderr")]
        response = "\n".join(part for part in parts if isinstance(part, str) and part)
    return (
        truncate_middle(replace_invalid(response if isinstance(response, str) else ""))
        or "(no output)"
    )


def ran_entry(ran: CommandFinished, entry: TrackedCall) -> dict[str, Any]:
    """The journal's entry for a command whose result waits for a person."""
    return {
        "type": RAN,
        "id": ran.id,
        "name": entry.name,
        "tool": ran.tool,
        "ok": ran.ok,
        "text": ran.text,
        "refused": list(ran.refused),
        "parent": entry.parent,
    }


def results_that_wait(journal: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """From a turn's journal: the entries of commands whose results the model has not seen."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in journal:
        if entry.get("type") == RAN:
            found[str(entry["id"])] = entry
        elif entry.get("type") == ENDED:
            found.pop(str(entry["id"]), None)
    return found


def ended_entry(call_id: str, ok: bool, text: str) -> dict[str, Any]:
    """The journal's entry for a call that has its result, while others have none yet."""
    return {"type": ENDED, "id": call_id, "ok": ok, "text": truncate_middle(text)}


def results_told(journal: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """From a turn's journal: the results that were kept."""
    return {str(e["id"]): e for e in journal if e.get("type") == ENDED and "text" in e}
