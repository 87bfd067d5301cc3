"""What stays in a notebook file of the loops it drove.

A notebook that is opened next year, without a kernel, must still say what happened. So beside
whatever is live there is an output that any renderer shows: Markdown in which an agent's text can
do nothing (:mod:`loopat_jupyter.transcript`), and ``application/vnd.loopat.transcript+json``, which
says which loop it was and how far it had come, so that running the cell again goes on with the same
loop.

Neither ever holds a token, an address or a path of the server. Sizes are bounded, and the output
says what is left out.
"""

from __future__ import annotations

from ._cell_loops import (
    PreviousLoop,
    cell_id,
    current_loop,
    find_previous_loop,
    record_cell_loop,
    request,
    set_current_loop,
)
from ._display import display_transcript
from ._follower import Follower
from ._markdown import LiveTurn, turn_markdown
from ._mime_bundle import TRANSCRIPT_MIME, TranscriptRecord, bundle

__all__ = [
    "TRANSCRIPT_MIME",
    "Follower",
    "LiveTurn",
    "PreviousLoop",
    "TranscriptRecord",
    "bundle",
    "cell_id",
    "current_loop",
    "display_transcript",
    "find_previous_loop",
    "record_cell_loop",
    "request",
    "set_current_loop",
    "turn_markdown",
]
