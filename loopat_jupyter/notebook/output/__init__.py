"""What stays in a notebook file of the loops it drove.

A notebook that is opened next year, without a kernel, must still tell what happened. So beside
whatever is live there is an output that any renderer shows: Markdown in which an agent's text can
do nothing, and ``application/vnd.loopat.transcript+json``, which says which loop it was and how
far it had come, so that running the cell again goes on with the same loop.

Neither ever holds a token, an address or a path. Sizes are bounded, and what is left out is said.
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
from ._display import show_story
from ._follower import Follower
from ._mime_bundle import STORY_MIME, StoryRecord, bundle
from ._turn import TurnStory

__all__ = [
    "STORY_MIME",
    "Follower",
    "PreviousLoop",
    "StoryRecord",
    "TurnStory",
    "bundle",
    "cell_id",
    "current_loop",
    "find_previous_loop",
    "record_cell_loop",
    "request",
    "set_current_loop",
    "show_story",
]
