"""The story as an output of the running cell, rewritten for as long as it is followed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from IPython.display import publish_display_data

from loopat_jupyter.client import Client, LoopatError, RetryPolicy, ServerAddress

from ._follower import Follower
from ._loop import TURNS, loop_markdown
from ._mime_bundle import StoryRecord, bundle


def show_story(address: ServerAddress, loop_id: str) -> Follower:
    """Show the loop's story below what the cell has shown, and keep it up to date.

    The caller owns the follower: it ends when it is closed or forgotten. A server that does not
    answer is no error here: the output is empty until it does.
    """
    output = _Output()
    seq = None
    try:
        with Client(address, retry=RetryPolicy(attempts=1)) as client:
            loop = client.loops.get(loop_id)
            document = loop.transcript("json", last=TURNS)
    except LoopatError:
        output.show({"text/plain": ""})
    else:
        output.tell(document, loop.info.turn_count)
        seq = int(document["seq"])
    return Follower(address, loop_id, output.tell, seq)


class _Output:
    def __init__(self) -> None:
        self.display_id = uuid.uuid4().hex
        self._shown: dict[str, Any] | None = None

    def tell(self, document: Mapping[str, Any], turn_count: int | None) -> None:
        record = StoryRecord(str(document["loop_id"]), int(document["seq"]))
        turns = len(document.get("turns") or ())
        plain = f"Transcript of the loop {document.get('title')!r}: the newest {turns} turns"
        data = bundle(loop_markdown(document, turn_count), record, plain)
        if data != self._shown:
            self.show(data)

    def show(self, data: dict[str, Any]) -> None:
        transient = {"display_id": self.display_id}
        publish_display_data(data, transient=transient, update=self._shown is not None)
        self._shown = data
