"""Shows text deltas before the provider's SDK has parsed them.

The SDKs build a tree of model objects for every token, which costs several times what storing and
sending it does; a hundred loops that stream at once would use a whole core for it. So text is read
from the response's bytes and shown at once. The SDK gets it later, joined to one delta, right
before the next event of another kind. Everything else (tool calls, thinking, usage, errors, the
end) goes through the SDK unchanged, and the response as a whole is what the SDK makes of it.

Each delta is shown by itself, as the model sent it. Only where showing one takes long, because the
whole server is behind, those that have arrived meanwhile are shown as one.

A stream that is not plain text deltas between plain line feeds goes through the SDK: the tap is
*closed*, and :meth:`DeltaTap.remaining` returns what of the SDK's text is still to be shown.
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

current_tap: ContextVar[DeltaTap | None] = ContextVar("current_tap", default=None)
"""The tap of the model call that this task makes."""

DATA = b"data: "
_END_MARKER = re.compile(rb"^(data: ?\[DONE\]|event: ?message_stop)\s*$", re.MULTILINE)
SLOW_SHOW = 0.02
"""Seconds to show one delta, from which on deltas are joined. A server that keeps up takes well
under a millisecond."""
EVENT_LIMIT = 1 << 20
"""Bytes. An event that is longer is no delta of text, and is not buffered."""


class DeltaTap:
    """Shows the text deltas of one response, and filters them out of what the SDK reads."""

    def __init__(self, show: OnDelta) -> None:
        self._show = show
        self._open = True
        self._unread_by_sdk = 0
        self._pending = b""
        self._held: list[str] = []
        self._template: dict[str, Any] = {}
        self._prefix = b""
        self._behind = False
        self._tail = b""
        self.ended = False
        """Whether the provider's end marker was seen: ``[DONE]``, ``message_stop``."""

    def detect_end(self, chunk: bytes) -> None:
        """Look for the end marker of the stream, which the SDKs do not pass on."""
        self._tail = (self._tail + chunk)[-200:]
        self.ended = self.ended or _END_MARKER.search(self._tail) is not None

    async def filter_chunk(self, chunk: bytes) -> AsyncIterator[bytes]:
        """What of ``chunk`` the SDK is to read, in pieces, between which its text is shown.

        The SDK has processed a piece when it asks for the next one; so what comes before a text is
        shown before it, whether the SDK or the tap shows it.
        """
        self._pending += chunk
        if b"\r" in chunk or len(self._pending) > EVENT_LIMIT:
            yield self.close()
            return
        *blocks, self._pending = self._pending.split(b"\n\n")
        passed = b""
        texts: list[str] = []
        for index, block in enumerate(blocks):
            text = self._take(block)
            if text is not None:
                if passed:
                    yield passed
                    passed = b""
                texts.append(text)
                continue
            await self._show_texts(texts)
            passed += self._release() + block + b"\n\n"
            texts = []
            if b"<think" in block:  # the SDK separates thinking that is inside the text
                rest = b"".join(one + b"\n\n" for one in blocks[index + 1 :])
                yield passed + rest + self.close()
                return
        if passed:
            yield passed
        await self._show_texts(texts)

    async def _show_texts(self, texts: list[str]) -> None:
        if self._behind:
            texts = ["".join(texts)]
        for text in filter(None, texts):
            began = time.monotonic()
            await self._show(ModelText(text))
            self._behind = time.monotonic() - began > SLOW_SHOW

    @property
    def closed(self) -> bool:
        return not self._open

    def close(self) -> bytes:
        """Stop filtering: the SDK reads everything from here on. Returns what it has not read."""
        held = self._release()
        self._open = False
        pending, self._pending = self._pending, b""
        return held + pending

    def remaining(self, text: str) -> str:
        """The part of the SDK's ``text`` that has not been shown."""
        shown = min(self._unread_by_sdk, len(text))
        self._unread_by_sdk -= shown
        return text[shown:]

    def _take(self, block: bytes) -> str | None:
        """The text of a plain text delta, which is then held back; ``None`` for anything else."""
        start = 0 if block.startswith(DATA) else block.find(b"\n" + DATA) + 1
        prefix, payload = block[: start + len(DATA)], block[start + len(DATA) :]
        if not prefix.endswith(DATA) or b"<think" in payload or b"\n" in payload:
            return None
        try:
            event = json.loads(payload)
        except ValueError:
            return None
        found = _text_field(event)
        if found is None:
            return None
        self._template, self._prefix = event, prefix
        text: str = found[0][found[1]]
        self._held.append(text)
        return text

    def _release(self) -> bytes:
        """What was held back, as one event in the provider's format."""
        if not self._held:
            return b""
        text, self._held = _join_surrogates("".join(self._held)), []
        found = _text_field(self._template)
        assert found is not None
        found[0][found[1]] = text
        self._unread_by_sdk += len(text)
        return self._prefix + json.dumps(self._template).encode() + b"\n\n"


def _join_surrogates(text: str) -> str:
    """``text`` as JSON would decode it: adjacent surrogates of a pair are one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _text_field(event: Any) -> tuple[dict[str, Any], str] | None:
    """The object and field with the text of an event that has nothing else, in either API."""
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
    """A response's bytes with the text deltas held back."""

    def __init__(self, tap: DeltaTap, stream: httpx2.AsyncByteStream) -> None:
        self._tap = tap
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._tap.detect_end(chunk)
            if self._tap.closed:
                yield chunk
                continue
            async for passed in self._tap.filter_chunk(chunk):
                yield passed
        if rest := self._tap.close():
            yield rest

    async def aclose(self) -> None:
        await self._stream.aclose()


async def install_hook(response: httpx2.Response) -> None:
    """The HTTP client's response hook: filter an event stream through the current tap."""
    tap = current_tap.get()
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if tap is None or kind != "text/event-stream" or "Content-Encoding" in response.headers:
        return
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _TappedStream(tap, response.stream)
