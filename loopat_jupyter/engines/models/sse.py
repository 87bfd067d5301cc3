"""Server-sent events from a provider's bytes, as tolerant as browsers are.

The rules are those of the HTML standard's event stream: a byte order mark at the start is skipped,
lines end with CR LF, LF or CR, one space after the colon is optional, ``data`` lines of one block
are joined with a line feed, comments and unknown fields are ignored. Beyond the standard a last
block that no blank line ends is given out too: some servers close without it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import NamedTuple

EVENT_LIMIT = 64 * 1024 * 1024
"""Bytes of one block. A provider that sends more without an end is broken, and held no longer."""


class ServerEvent(NamedTuple):
    """One block that had data. ``name`` is empty where the block named none."""

    name: str
    data: str


class EventTooLong(Exception):
    """A block is longer than ``EVENT_LIMIT``."""


class EventStreamDecoder:
    """Turns chunks of bytes, cut anywhere, into events."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._after_cr = False
        self._begun = False
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """The events that ``chunk`` completes. Raises :class:`EventTooLong`."""
        text = self._text.decode(chunk)
        if not text:
            return
        if not self._begun:
            self._begun = True
            text = text.removeprefix("\N{BYTE ORDER MARK}")
        if self._after_cr:
            self._after_cr = False
            text = text.removeprefix("\n")
        if text.endswith("\r"):  # a line feed that belongs to it may come with the next chunk
            self._after_cr = True
        self._size += len(text)
        if self._size > EVENT_LIMIT:
            raise EventTooLong
        *lines, self._line = (
            (self._line + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        )
        for line in lines:
            event = self._take(line)
            if event is not None:
                yield event

    def end(self) -> ServerEvent | None:
        """The block that the end of the stream ends, if it had data."""
        rest, self._line = self._line + self._text.decode(b"", final=True), ""
        if rest:
            self._take(rest)
        return self._take("")

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            event = ServerEvent(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value.strip()
        return None
