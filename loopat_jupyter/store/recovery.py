"""What a server does first with the turns its predecessor left unfinished.

* A turn that was *running* lost its process: it ends with ``error server_restarted``, its open
  tool calls and choices are closed. It is never run again, because some of it has happened.
* A turn that was *waiting* is whole on disk: it stays so, and resumes when it is answered.
* A *queued* turn has not begun: it runs when the turns before it have ended.
* An archived loop has nothing unfinished: what a crash left there is interrupted.
"""

from __future__ import annotations

import sqlite3

from ..loops.models import LoopEvent
from .turn_end import finish_turn
from .turns import running_turns, unfinished_turns_of_archived

RESTARTED = (
    "The server restarted while this turn ran. What it had done is kept, and the conversation "
    "goes on from there: send a message to continue."
)


def recover(connection: sqlite3.Connection, stored: list[LoopEvent]) -> list[str]:
    """End the running turns; the ids of the loops that have unfinished ones left."""
    for turn in running_turns(connection):
        finish_turn(connection, stored, turn, "error", code="server_restarted", message=RESTARTED)
    for turn in unfinished_turns_of_archived(connection):
        finish_turn(connection, stored, turn, "interrupted")
    rows = connection.execute(
        "SELECT DISTINCT l.loop_id FROM turns t JOIN loops l ON l.n = t.loop_n "
        "WHERE t.state IN ('queued', 'waiting')"
    )
    return [loop_id for (loop_id,) in rows]
