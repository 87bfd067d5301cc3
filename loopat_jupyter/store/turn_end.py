"""Ending a turn: what is still open of it, then its one terminal event, in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from ..loops.models import UNFINISHED, LoopEvent, TurnRecord, now
from ..loops.ports.engine import TurnState
from .events import append_events, turn_text


def finish_turn(
    connection: sqlite3.Connection,
    stored: list[LoopEvent],
    turn: TurnRecord,
    state: TurnState,
    *,
    code: str | None = None,
    message: str = "",
) -> bool:
    """End a turn inside a transaction: what is still open of it, then its terminal event.

    A turn that never began just gets a stored ``interrupted`` and the state ``cancelled``.
    """
    row = connection.execute("SELECT state, usage FROM turns WHERE n = ?", (turn.n,)).fetchone()
    was, usage = row
    if was not in UNFINISHED:
        return False
    events: list[tuple[str, Mapping[str, Any]]] = []
    if was == "queued" and state == "interrupted":
        state = "cancelled"
    events += _cancel_pending_choices(connection, turn.n)
    events += _close_open_tool_calls(connection, turn.n)
    if state == "done":
        events.append(("done", {"usage": json.loads(usage)} if usage else {}))
    elif state == "error":
        events.append(("error", {"code": code or "agent_error", "message": message}))
    else:
        events.append(("interrupted", {}))
    seq = append_events(connection, stored, turn, events)
    connection.execute(
        "UPDATE choices SET resolved_seq = ? WHERE turn_n = ? AND resolved_seq IS NULL",
        (seq, turn.n),
    )
    connection.execute(
        "UPDATE turns SET state = ?, ended_at = ?, ended_seq = ?, error_code = ?, text = ? "
        "WHERE n = ?",
        (state, now(), seq, code, turn_text(connection, turn.n), turn.n),
    )
    return True


def _close_open_tool_calls(
    connection: sqlite3.Connection, turn_n: int
) -> list[tuple[str, Mapping[str, Any]]]:
    """Every announced call gets its one result, also when the turn ended under it."""
    rows = connection.execute(
        "SELECT tool_use_id FROM tool_calls WHERE turn_n = ? AND ok IS NULL ORDER BY position",
        (turn_n,),
    ).fetchall()
    connection.execute(
        "UPDATE tool_calls SET ok = 0, result = 'The turn ended before this call had a result.' "
        "WHERE turn_n = ? AND ok IS NULL",
        (turn_n,),
    )
    return [("tool_result", {"tool_use_id": tool_use_id, "ok": False}) for (tool_use_id,) in rows]


def _cancel_pending_choices(
    connection: sqlite3.Connection, turn_n: int
) -> list[tuple[str, Mapping[str, Any]]]:
    """Cancel a turn's pending choices inside its last transaction; their events."""
    rows = connection.execute(
        "UPDATE choices SET outcome = 'cancelled', source = 'policy', resolved_at = ? "
        "WHERE turn_n = ? AND outcome IS NULL RETURNING choice_id",
        (now(), turn_n),
    ).fetchall()
    return [
        (
            "choice_resolved",
            {"choice_id": choice_id, "source": "policy", "outcome": "cancelled"},
        )
        for (choice_id,) in rows
    ]
