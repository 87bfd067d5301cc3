"""A loop's transcript as an output of the running cell, rewritten while it is followed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from IPython.display import publish_display_data

from loopat_jupyter.client import Client, LoopatError, RetryPolicy, ServerAddress

from ._follower import Follower
from ._markdown import LOOP_TURNS, loop_markdown
from ._mime_bundle import TranscriptRecord, bundle


def display_transcript(address: ServerAddress, loop_id: str) -> Follower:
    """Show the loop's transcript below the cell's output so far, and keep it up to date.

    The caller owns the follower: it ends when it is closed or garbage-collected. A server that
    cannot be reached is no error here: the output is empty until it can.
    """
    output = _TranscriptOutput()
    seq = None
    try:
        with Client(address, retry=RetryPolicy(attempts=1)) as client:
            loop = client.loops.get(loop_id)
            document = loop.transcript("json", last=LOOP_TURNS)
    except LoopatError:
        output.publish({"text/plain": ""})
    else:
        output.show_transcript(document, loop.info.turn_count)
        seq = int(document["seq"])
    return Follower(address, loop_id, output.show_transcript, seq)


class _TranscriptOutput:
    def __init__(self) -> None:
        self.display_id = uuid.uuid4().hex
        self._published: dict[str, Any] | None = None

    def show_transcript(self, document: Mapping[str, Any], turn_count: int | None) -> None:
        record = TranscriptRecord(str(document["loop_id"]), int(document["seq"]))
        turns = len(document.get("turns") or ())
        plain = f"Transcript of the loop {document.get('title')!r}: the newest {turns} turns"
        data = bundle(loop_markdown(document, turn_count), record, plain)
        if data != self._published:
            self.publish(data)

    def publish(self, data: dict[str, Any]) -> None:
        transient = {"display_id": self.display_id}
        publish_display_data(data, transient=transient, update=self._published is not None)
        self._published = data
