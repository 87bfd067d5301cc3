"""A model behind an API: one request, its stream, and what is learned of the server by the way.

What a server refuses is remembered for as long as the model is: optional fields are left out of
later requests, a smaller output limit is kept to, and a window that turned out smaller counts from
then on.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import httpx2
from pydantic_core import PydanticSerializationError, to_json

from ...context.config_file import SelectedModel
from .anthropic import AnthropicFormat
from .capabilities import guess_window
from .errors import (
    content_error,
    is_error,
    looks_like_html,
    parse_json,
    response_error,
    web_page_error,
)
from .http import base_url, shown_address
from .messages import ModelReply
from .openai import OpenAiFormat
from .port import ModelError, ModelRequest, ModelText, ModelThinking, OnDelta
from .sse import EventStreamDecoder, EventTooLong, ServerEvent
from .wire import Delta, Json, Origin, ReplyReader, RequestPlan, WireFormat

FORMATS: Mapping[str, WireFormat] = {"anthropic": AnthropicFormat(), "openai": OpenAiFormat()}
BODY_LIMIT = 16 * 1024 * 1024
"""Bytes of an answer that is no stream."""
BEHIND = 0.02
"""Seconds. Showing a delta takes well under a millisecond on a server that keeps up; where it takes
longer, those that have arrived meanwhile are shown as one, so that it does not fall further
behind."""
CHARACTERS_PER_TOKEN = 4
SMALLEST_WINDOW = 1000
LAST_WORDS = frozenset({"[DONE]", "DONE"})


class RemoteModel:
    """Implements :class:`~loopat_jupyter.engines.models.port.Model`."""

    def __init__(self, choice: SelectedModel, http: httpx2.AsyncClient) -> None:
        self._choice = choice
        self._http = http
        self._format = FORMATS[choice.api]
        address = base_url(choice)
        self._url = self._format.url(address)
        self._shown = shown_address(self._url)
        self._origin = Origin(choice.api, address, choice.model)
        self._omitted: set[str] = set()
        self._output_limit: int | None = None
        self.name = f"{choice.provider}/{choice.model}"
        self.window = choice.context_window or guess_window(
            choice.model, own_address=choice.base_url is not None
        )

    async def complete(self, request: ModelRequest, show: OnDelta) -> ModelReply:
        while True:
            plan = RequestPlan(
                self._choice, self._origin, request, frozenset(self._omitted), self._output_limit
            )
            body = self._format.body(plan)
            shown = _DeltaForwarder(show)
            try:
                return await self._exchange(plan, _encode(body), shown)
            except ModelError as error:
                self._learn_window(error, body)
                if shown.anything or not self._adapt(error, body):
                    raise

    def _adapt(self, error: ModelError, body: Json) -> bool:
        """Whether the request can be made in another way that this server may take."""
        if error.output_limit is not None and error.output_limit != self._output_limit:
            limit = body.get("max_tokens") or body.get("max_completion_tokens")
            if limit is None or error.output_limit < limit:
                self._output_limit = error.output_limit
                return True
        if error.status not in (400, 404, 415, 422, 500, 501):
            return False
        for name in self._format.optional:
            named = re.search(rf"(?<![A-Za-z_]){name}(?![A-Za-z])", error.detail)
            if named and name not in self._omitted and _holds(body, name):
                self._omitted.add(name)
                return True
        return False

    def _learn_window(self, error: ModelError, body: Json) -> None:
        if not error.too_long:
            return
        sent = len(_encode(body)) // CHARACTERS_PER_TOKEN
        # Without a number the request's own size is a bound, where the refusal is about tokens.
        learned = error.window or (sent * 4 // 5 if error.status in (400, 422) else None)
        if learned is not None:
            self.window = max(min(self.window, learned), SMALLEST_WINDOW)

    async def _exchange(
        self, plan: RequestPlan, content: bytes, shown: _DeltaForwarder
    ) -> ModelReply:
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream, application/json",
            "user-agent": "loopat-jupyter",
            **self._format.headers(self._choice),
        }
        for name, value in self._choice.headers:
            headers.pop(name.lower(), None)
            if value is not None:
                headers[name.lower()] = value
        try:
            async with self._http.stream(
                "POST", self._url, params=self._params(), content=content, headers=headers
            ) as response:
                return await self._read(plan, response, shown)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, EventTooLong) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise ModelError(
                f"It sent what is no valid answer ({reason}; from {self._shown})."
            ) from error

    def _params(self) -> dict[str, str] | None:
        return dict(self._choice.query) or None

    def _unreachable(self, error: httpx2.TransportError) -> ModelError:
        words = str(error) or type(error).__name__
        if isinstance(error, httpx2.ReadTimeout):
            words = "it was silent for too long"
        elif isinstance(error, httpx2.ConnectTimeout):
            words = "the connection timed out"
        elif isinstance(error, httpx2.ProxyError):
            words = f"the proxy refused: {words}"
        return ModelError(f"{words} (asked {self._shown})", retryable=True)

    @property
    def _secrets(self) -> tuple[str, ...]:
        values = (value for _, value in (*self._choice.headers, *self._choice.query) if value)
        return (self._choice.api_key, *(value for value in values if len(value) >= 8))

    async def _read(
        self, plan: RequestPlan, response: httpx2.Response, shown: _DeltaForwarder
    ) -> ModelReply:
        if response.status_code >= 300:
            body = await _bounded(response)
            raise response_error(
                response.status_code,
                body,
                dict(response.headers),
                address=self._shown,
                secrets=self._secrets,
            )
        reader = self._format.reader(plan)
        chunks = response.aiter_bytes()
        head = await _first_bytes(chunks)
        if looks_like_html(head):
            raise web_page_error(head, address=self._shown, secrets=self._secrets)
        if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
            await self._read_whole(reader, await _rest(head, chunks), shown)
        else:
            await self._read_stream(reader, head, chunks, shown)
        await shown.show(reader.flush_pending())
        return reader.reply()

    async def _read_whole(self, reader: ReplyReader, body: bytes, shown: _DeltaForwarder) -> None:
        """A whole answer, though a stream was asked for; or an error with status 200."""
        content = parse_json(body)
        if isinstance(content, list) and content and isinstance(content[0], Mapping):
            content = content[0]
        if not isinstance(content, dict):
            raise ModelError(f"It sent what is no valid answer (from {self._shown}).")
        if is_error(content):
            raise content_error(content, address=self._shown, secrets=self._secrets)
        await shown.show(reader.read_whole(content))

    async def _read_stream(
        self, reader: ReplyReader, head: bytes, chunks: AsyncIterator[bytes], shown: _DeltaForwarder
    ) -> None:
        events = EventStreamDecoder()
        chunk: bytes | None = head
        while chunk is not None:
            await shown.show(self._deltas(reader, events.feed(chunk)))
            chunk = await anext(chunks, None)
        last = events.end()
        await shown.show(self._deltas(reader, [last] if last is not None else []))

    def _deltas(self, reader: ReplyReader, events: Iterable[ServerEvent]) -> Iterable[Delta]:
        for event in events:
            if event.data.strip() in LAST_WORDS or event.name == "message_stop":
                reader.mark_ended()
            data = parse_json(event.data.encode("utf-8", "surrogatepass"))
            if isinstance(data, list) and data and isinstance(data[0], dict):
                data = data[0]
            if not isinstance(data, dict):
                if event.name == "error" and event.data.strip():
                    raise content_error(
                        {"error": event.data}, address=self._shown, secrets=self._secrets
                    )
                continue  # a heartbeat, or a word that is no JSON
            if event.name == "error" or is_error(data):
                raise content_error(data, address=self._shown, secrets=self._secrets)
            yield from reader.read_event(data)


class _DeltaForwarder:
    """Shows deltas, one by one, or joined while the server is behind."""

    def __init__(self, show: OnDelta) -> None:
        self._show = show
        self._behind = False
        self.anything = False

    async def show(self, deltas: Iterable[Delta]) -> None:
        if self._behind:
            deltas = list(_joined(deltas))
        for delta in deltas:
            if not delta.text:
                continue
            self.anything = True
            begun = time.monotonic()
            await self._show(delta)
            self._behind = time.monotonic() - begun > BEHIND


def _joined(deltas: Iterable[Delta]) -> Iterable[Delta]:
    kind: type[ModelText | ModelThinking] | None = None
    texts: list[str] = []
    for delta in deltas:
        if kind is not None and type(delta) is not kind:
            yield kind("".join(texts))
            texts = []
        kind = type(delta)
        texts.append(delta.text)
    if kind is not None:
        yield kind("".join(texts))


def _encode(body: Json) -> bytes:
    """As JSON. A long history is encoded in a few milliseconds, and not walked again after this."""
    try:
        return to_json(body)
    except PydanticSerializationError:  # half a character that slipped in
        import json

        return json.dumps(body).encode()


def _holds(value: Any, name: str) -> bool:
    """Whether a body has a member of this name, at any depth that we write."""
    if isinstance(value, Mapping):
        return name in value or any(
            _holds(item, name) for key, item in value.items() if key != "parameters"
        )
    if isinstance(value, list):
        return any(_holds(item, name) for item in value)
    return False


async def _bounded(response: httpx2.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > BODY_LIMIT:
            break
    return body


async def _first_bytes(chunks: AsyncIterator[bytes]) -> bytes:
    """Enough of the answer to tell what it is."""
    head = b""
    while not head.strip():
        chunk = await anext(chunks, None)
        if chunk is None:
            break
        head += chunk
    return head


async def _rest(head: bytes, chunks: AsyncIterator[bytes]) -> bytes:
    parts, size = [head], len(head)
    async for chunk in chunks:
        size += len(chunk)
        if size > BODY_LIMIT:
            raise ModelError("It sent an answer that is too large.")
        parts.append(chunk)
    return b"".join(parts)
