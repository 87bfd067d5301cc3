"""What the engine ``claude`` keeps in a turn's journal, and what it reads from it.

========================  ==========================================================
``claude_session``        the turn runs in the CLI's session with this ``id``
``claude_lost``           the session was found to be gone
``claude_call``           a person may be asked about this call
``claude_started``        this call was allowed, so it may have run
``claude_ran``            a command ran and was refused destinations, and its result waits
                          for a person
``claude_ended``          this call has its result; with the result where other calls are open
========================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...loops.ports.engine import PastTurn
from ..tools.outcome import truncate_middle
from .cli_process import CommandFinished, ToolRequested
from .tool_call_tracker import TrackedCall

Entry = Mapping[str, Any]

_SESSION, _LOST = "claude_session", "claude_lost"
_CALL, _STARTED, _RAN, _ENDED = "claude_call", "claude_started", "claude_ran", "claude_ended"


# ---------------------------------------------------------------------- sessions


def session_entry(session_id: str) -> dict[str, Any]:
    return {"type": _SESSION, "id": session_id}


def lost_entry() -> dict[str, Any]:
    return {"type": _LOST}


def session_of(journal: Iterable[Entry]) -> str | None:
    """The session that a turn ran in; ``None`` where it was in none."""
    ids = [str(entry["id"]) for entry in journal if entry.get("type") == _SESSION]
    return ids[-1] if ids else None


def last_session(past: Iterable[PastTurn]) -> str | None:
    """The session that the conversation is in; ``None`` when a new one is to be created."""
    found: str | None = None
    for turn in past:
        for entry in turn.journal:
            if entry.get("type") == _SESSION:
                found = str(entry["id"])
            elif entry.get("type") == _LOST:
                found = None
    return found


def names_session(turn: PastTurn) -> bool:
    """Whether the turn's journal has the session that it ran in, or that the session was lost."""
    return any(entry.get("type") in (_SESSION, _LOST) for entry in turn.journal)


def missed_turns(past: Sequence[PastTurn], session_id: str | None) -> Sequence[PastTurn]:
    """The turns that the session does not hold: those after its last one, and that one too where
    it was cut off, since its end may be missing."""
    for number in range(len(past), 0, -1):
        turn = past[number - 1]
        ids = (entry.get("id") for entry in turn.journal if entry.get("type") == _SESSION)
        if session_id is not None and session_id in ids:
            return past[number if turn.state == "done" else number - 1 :]
    return past


# ---------------------------------------------------------------------- calls


def call_entry(request: ToolRequested, call: TrackedCall) -> dict[str, Any]:
    return {
        "type": _CALL,
        "id": request.id,
        "name": call.event_id,
        "tool": request.tool,
        "input": dict(request.input),
        "parent": call.parent,
    }


def started_entry(call_id: str) -> dict[str, Any]:
    return {"type": _STARTED, "id": call_id}


def command_entry(command: CommandFinished, call: TrackedCall) -> dict[str, Any]:
    return {
        "type": _RAN,
        "id": command.id,
        "name": call.event_id,
        "tool": command.tool,
        "ok": command.ok,
        "text": command.output,
        "refused": list(command.denied_hosts),
        "parent": call.parent,
    }


def ended_entry(call_id: str) -> dict[str, Any]:
    return {"type": _ENDED, "id": call_id}


def result_entry(call_id: str, ok: bool, text: str) -> dict[str, Any]:
    """A call has its result while others are open."""
    return {**ended_entry(call_id), "ok": ok, "text": truncate_middle(text)}


def unfinished_calls(journal: Iterable[Entry]) -> tuple[list[Entry], set[str]]:
    """The calls that a person was, or may have been, asked about and that were not started; and
    the ids of those that were started."""
    calls: dict[str, Entry] = {}
    started: set[str] = set()
    for entry in journal:
        if entry.get("type") == _CALL:
            calls[str(entry["id"])] = entry
        elif entry.get("type") == _STARTED:
            started.add(str(entry["id"]))
        elif entry.get("type") == _ENDED:
            calls.pop(str(entry["id"]), None)
    return [entry for call_id, entry in calls.items() if call_id not in started], started


def waiting_commands(journal: Iterable[Entry]) -> dict[str, Entry]:
    """By call id: the commands that ran, and whose results the model has not seen."""
    found: dict[str, Entry] = {}
    for entry in journal:
        if entry.get("type") == _RAN:
            found[str(entry["id"])] = entry
        elif entry.get("type") == _ENDED:
            found.pop(str(entry["id"]), None)
    return found


def kept_results(journal: Iterable[Entry]) -> dict[str, Entry]:
    """By call id: the results that are in the journal."""
    return {str(e["id"]): e for e in journal if e.get("type") == _ENDED and "text" in e}
