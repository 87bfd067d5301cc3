"""A fast lane for text: deltas are shown before the provider's SDK has looked at them.

The SDKs build a tree of model objects for every token, which costs several times what storing and
sending it does; a hundred loops that stream at once would spend a whole core on it. So text is
read straight from the response's bytes and shown at once. What is read here the SDK gets later,
joined to one delta, right before the next event of another kind. Everything else (tool calls,
thinking, usage, errors, the end) goes through the SDK untouched, and the answer as a whole is what
the SDK makes of it.

Each delta is shown by itself, as the model sent it. Only where showing one takes long, because the
whole server has fallen behind, those that have arrived meanwhile are shown as one: that keeps it
from falling further behind.

A stream that is not plain text deltas between plain line feeds takes the slow way: the lane
*closes*, and :meth:`DeltaTap.unshown` says what of the SDK's text is still to be shown.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from typing import Any

import httpx2

from .port import ModelText, OnDelta

current_tap: ContextVar[DeltaTap | None] = ContextVar("current_lane", default=None)
"""The lane of the answer that is being asked for in this task."""

DATA = b"data: "
_LAST_WORD = re.compile(rb"^(data: ?\[DONE\]|event: ?message_stop)\s*$", re.MULTILINE)
BEHIND = 0.02
"""Seconds. Showing a delta takes well under a millisecond on a server that keeps up."""
LONGEST_EVENT = 1 << 20
"""Bytes. Whatever is longer is no delta, and not ours to hold."""


class DeltaTap:
    """One answer's fast lane."""

    def __init__(self, show: OnDelta) -> None:
        self._show = show
        self._open = True
        self._ahead = 0
        self._pending = b""
        self._held: list[str] = []
        self._template: dict[str, Any] = {}
        self._prefix = b""
        self._behind = False
        self._tail = b""
        self.ended = False
        """Whether the provider's own last word was seen: ``[DONE]``, ``message_stop``."""

    def detect_end(self, chunk: bytes) -> None:
        """Look for the stream's last word, which the SDKs do not pass on."""
        self._tail = (self._tail + chunk)[-200:]
        self.ended = self.ended or _LAST_WORD.search(self._tail) is not None

    async def filter_chunk(self, chunk: bytes) -> AsyncIterator[bytes]:
        """What of ``chunk`` the SDK is to see, in pieces, between which the text in it is shown.

        The SDK has made all it can of a piece when it asks for the next one; so what comes before
        a text has been shown before it, whichever way it went.
        """
        self._pending += chunk
        if b"\r" in chunk or len(self._pending) > LONGEST_EVENT:
            yield self.close()
            return
        *blocks, self._pending = self._pending.split(b"\n\n")
        passed = b""
        fresh: list[str] = []
        for index, block in enumerate(blocks):
            text = self._take(block)
            if text is not None:
                if passed:
                    yield passed
                    passed = b""
                fresh.append(text)
                continue
            await self._say(fresh)
            passed += self._release() + block + b"\n\n"
            fresh = []
            if b"<think" in block:  # thinking inside the text is the SDK's to tell apart
                rest = b"".join(one + b"\n\n" for one in blocks[index + 1 :])
                yield passed + rest + self.close()
                return
        if passed:
            yield passed
        await self._say(fresh)

    async def _say(self, fresh: list[str]) -> None:
        if self._behind:
            fresh = ["".join(fresh)]
        for text in filter(None, fresh):
            began = time.monotonic()
            await self._show(ModelText(text))
            self._behind = time.monotonic() - began > BEHIND

    @property
    def closed(self) -> bool:
        return not self._open

    def close(self) -> bytes:
        """From here on the SDK sees everything at once; what it has not seen yet."""
        held = self._release()
        self._open = False
        pending, self._pending = self._pending, b""
        return held + pending

    def remaining(self, text: str) -> str:
        """The part of the SDK's ``text`` that the lane has not shown."""
        shown = min(self._ahead, len(text))
        self._ahead -= shown
        return text[shown:]

    def _take(self, block: bytes) -> str | None:
        """The text of a plain text delta, which is then held back; ``None`` for all else."""
        start = 0 if block.startswith(DATA) else block.find(b"\n" + DATA) + 1
        prefix, payload = block[: start + len(DATA)], block[start + len(DATA) :]
        if not prefix.endswith(DATA) or b"<think" in payload or b"\n" in payload:
            return None
        try:
            event = json.loads(payload)
        except ValueError:
            return None
        place = _text_place(event)
        if place is None:
            return None
        self._template, self._prefix = event, prefix
        text: str = place[0][place[1]]
        self._held.append(text)
        return text

    def _release(self) -> bytes:
        """What was held back, as one event of the provider's own form."""
        if not self._held:
            return b""
        text, self._held = _joined("".join(self._held)), []
        place = _text_place(self._template)
        assert place is not None
        place[0][place[1]] = text
        self._ahead += len(text)
        return self._prefix + json.dumps(self._template).encode() + b"\n\n"


def _joined(text: str) -> str:
    """``text`` as it is after JSON: halves of a character next to each other are one."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _text_place(event: Any) -> tuple[dict[str, Any], str] | None:
    """Where the text stands in an event that holds nothing else, in either provider's form."""
    if not isinstance(event, dict):
        return None
    if event.get("type") == "content_block_delta":
        return _plain(event.get("delta"), "text", {"type": "text_delta"})
    choices = event.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or event.get("usage"):
        return None
    choice = choices[0]
    if not isinstance(choice, dict) or choice.get("finish_reason") or choice.get("logprobs"):
        return None
    return _plain(choice.get("delta"), "content", {"role": "assistant"})


def _plain(delta: Any, field: str, beside: Mapping[str, str]) -> tuple[dict[str, Any], str] | None:
    if not isinstance(delta, dict) or not isinstance(delta.get(field), str) or not delta[field]:
        return None
    for name, value in delta.items():
        if name != field and value is not None and beside.get(name) != value:
            return None
    return delta, field


class _TappedStream(httpx2.AsyncByteStream):
    """A response's bytes with the lane's text held back."""

    def __init__(self, lane: DeltaTap, stream: httpx2.AsyncByteStream) -> None:
        self._lane = lane
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._lane.detect_end(chunk)
            if self._lane.closed:
                yield chunk
                continue
            async for passed in self._lane.filter_chunk(chunk):
                yield passed
        if rest := self._lane.close():
            yield rest

    async def aclose(self) -> None:
        await self._stream.aclose()


async def install_hook(response: httpx2.Response) -> None:
    """A client's response hook: lead an event stream through the lane of the current answer."""
    lane = current_tap.get()
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if lane is None or kind != "text/event-stream" or "Content-Encoding" in response.headers:
        return
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _TappedStream(lane, response.stream)
