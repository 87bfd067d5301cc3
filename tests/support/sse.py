"""A strict reader of the API's event streams.

It accepts exactly the wire form the contract gives, and nothing else that SSE would allow:
``id: <seq>`` (stored events only), ``event: <name>``, ``data: <one line of JSON>``, blank line.
A reader that is lenient here would hide what a client in another language trips over.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx

WAIT = 30.0
"""Upper bound in seconds of every wait for an event; never how long a test takes."""

STORED = frozenset(
    {
        "started",
        "assistant_delta",
        "thinking_delta",
        "tool_call",
        "tool_result",
        "requires_choice",
        "choice_resolved",
        "done",
        "interrupted",
        "error",
    }
)
OF_CONNECTION = frozenset({"queued", "snapshot", "ping", "sdk_message"})
TERMINAL = frozenset({"done", "interrupted", "error"})


class WireError(AssertionError):
    """The bytes on the wire are not what the contract says."""


class StreamEnded(AssertionError):
    """The stream ended before the event that the test waits for."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was on the wire; ``seq`` is ``None`` for events of the connection."""

    seq: int | None
    name: str
    data: dict[str, Any]

    @property
    def terminal(self) -> bool:
        return self.name in TERMINAL


def parse_frame(frame: bytes) -> Event:
    """Exactly one event, without its blank line."""
    lines = frame.decode("utf-8").split("\n")
    seq: int | None = None
    if lines[0].startswith("id: "):
        number = lines.pop(0)[4:]
        if not (number.isascii() and number.isdigit()) or number.startswith("0"):
            raise WireError(f"id is no sequence number: {frame!r}")
        seq = int(number)
    if len(lines) != 2 or not lines[0].startswith("event: ") or not lines[1].startswith("data: "):
        raise WireError(f"not `[id]`, `event`, `data`: {frame!r}")
    name, text = lines[0][7:], lines[1][6:]
    if name not in STORED | OF_CONNECTION:
        raise WireError(f"unknown event {name!r}")
    if (seq is not None) != (name in STORED):
        raise WireError(f"an id belongs to exactly the stored events: {frame!r}")
    if "\r" in text:
        raise WireError(f"a bare CR ends a line in SSE: {frame!r}")
    data = json.loads(text)
    if not isinstance(data, dict):
        raise WireError(f"data is no JSON object: {frame!r}")
    return Event(seq, name, data)


class EventStream:
    """One open stream. Reads only when asked, keeps everything it has read in :attr:`events`.

    ``ended`` is true after a clean end by the server, ``cut`` after a broken connection.
    ``may_be_cut`` says that the test itself makes the stream end early (kill, revocation).
    """

    def __init__(
        self,
        response: httpx.Response,
        *,
        kind: Literal["post", "events"],
        loop_id: str,
        after_seq: int | None = None,
    ) -> None:
        self.response = response
        self.kind = kind
        self.loop_id = loop_id
        self.after_seq = after_seq
        self.events: list[Event] = []
        self.ended = False
        self.cut = False
        self.may_be_cut = False
        self._bytes = b""
        self._chunks: AsyncIterator[bytes] = response.aiter_raw()

    async def next(self, timeout: float = WAIT) -> Event:
        """The next event, pings included. Raises ``StreamEnded``, ``TimeoutError``."""
        async with asyncio.timeout(timeout):
            while b"\n\n" not in self._bytes:
                try:
                    self._bytes += await anext(self._chunks)
                except StopAsyncIteration:
                    self._finish(clean=True)
                except httpx.TransportError:
                    self._finish(clean=False)
        frame, self._bytes = self._bytes.split(b"\n\n", 1)
        event = parse_frame(frame)
        self.events.append(event)
        return event

    def _finish(self, *, clean: bool) -> None:
        self.ended, self.cut = clean, not clean
        if clean and self._bytes and not self.may_be_cut:
            raise WireError(f"the stream ended inside an event: {self._bytes!r}")
        raise StreamEnded(f"ended after {[e.name for e in self.events]}")

    async def event(self, timeout: float = WAIT) -> Event:
        """The next event that is no ping."""
        while True:
            event = await self.next(timeout)
            if event.name != "ping":
                return event

    async def until(self, *names: str, timeout: float = WAIT) -> Event:
        """The next event with one of ``names``; what comes before it is kept in ``events``."""
        async with asyncio.timeout(timeout):
            while True:
                event = await self.next(timeout)
                if event.name in names:
                    return event

    async def rest(self, timeout: float = WAIT) -> list[Event]:
        """Read to the end of the stream; everything but pings, from its beginning on."""
        async with asyncio.timeout(timeout):
            while True:
                try:
                    await self.next(timeout)
                except StreamEnded:
                    return self.content

    @property
    def content(self) -> list[Event]:
        """What was read so far, without pings."""
        return [e for e in self.events if e.name != "ping"]

    @property
    def stored(self) -> list[Event]:
        return [e for e in self.events if e.seq is not None]

    @property
    def names(self) -> list[str]:
        return [e.name for e in self.content]

    @property
    def text(self) -> str:
        return "".join(e.data["text"] for e in self.events if e.name == "assistant_delta")
