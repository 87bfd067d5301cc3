"""A scripted model server: Anthropic Messages and OpenAI Chat Completions, streaming.

A test writes what each request is to be answered with, as a :class:`Script`, and puts the
script's marker into the message it sends to a loop. The server finds the last marker that a
*user* wrote in the request and answers with that script's next step, so tests that run at the
same time never mix. A :class:`Gate` in a step holds the turn open until the test says otherwise.

Where a marker would be seen (in pictures), the script may hang on the message's own words.

A request without a marker gets a short plain answer. Every request is kept for inspection.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import json
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .sse import WAIT

MARKER = re.compile(r"\[\[(script-[0-9a-f]{8})\]\]")


# --------------------------------------------------------------------------- what a step says


class Gate:
    """A point where the model stops until the test opens it. Usable from any thread."""

    def __init__(self) -> None:
        self._reached: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()

    def open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    async def reached(self, timeout: float = WAIT) -> None:
        """Wait until the model stands at this gate."""
        waiter = asyncio.wrap_future(self._reached)
        await asyncio.wait_for(asyncio.shield(waiter), timeout)

    async def pass_through(self) -> None:
        if not self._reached.done():
            self._reached.set_result(None)
        await asyncio.shield(asyncio.wrap_future(self._opened))


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Thinking:
    text: str


@dataclass(frozen=True)
class Tool:
    """A tool call. ``input`` as a string is sent as it is: it need not be JSON."""

    name: str
    input: dict[str, Any] | str
    id: str = field(default_factory=lambda: f"toolu_{secrets.token_hex(8)}")

    @property
    def arguments(self) -> str:
        return self.input if isinstance(self.input, str) else json.dumps(self.input)


@dataclass(frozen=True)
class Hold:
    gate: Gate


@dataclass(frozen=True)
class Break:
    """An error in the middle of the stream; ``None`` drops the connection."""

    error: str | None = "overloaded_error"


@dataclass(frozen=True)
class Fail:
    """The whole request is refused with a status."""

    status: int
    message: str = "the mock refuses"
    retry_after: str | None = "0"


Part = Text | Thinking | Tool | Hold | Break
Step = Sequence[Part] | Fail


@dataclass
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def api(self) -> str:
        return "openai" if self.path.endswith("/chat/completions") else "anthropic"

    def user_texts(self) -> list[str]:
        """What users wrote, oldest first; tool results are not user text."""
        texts: list[str] = []
        for message in self.body.get("messages", []):
            if message["role"] != "user":
                continue
            content = message["content"]
            if isinstance(content, str):
                texts.append(content)
            else:
                texts.extend(b["text"] for b in content if b.get("type") == "text")
        return texts

    def tool_results(self) -> list[str]:
        """The text of every tool result in the request, oldest first."""
        return [text for _, text in self._results()]

    def results_of_calls(self) -> dict[str, str]:
        """The same by the ids of their calls: of parallel calls any may be told first."""
        return dict(self._results())

    def _results(self) -> Iterator[tuple[str, str]]:
        for message in self.body.get("messages", []):
            content = message.get("content")
            if message["role"] == "tool":
                yield message["tool_call_id"], _flat(content)
            elif message["role"] == "user" and isinstance(content, list):
                for block in content:
                    if block["type"] == "tool_result":
                        yield block["tool_use_id"], _flat(block["content"])

    @property
    def whole(self) -> str:
        return json.dumps(self.body, ensure_ascii=False)


def _flat(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content)


class Script:
    """What the model answers to one conversation, step by step; the last step is not repeated."""

    def __init__(self, steps: Sequence[Step], words: str | None = None) -> None:
        self.marker = f"script-{secrets.token_hex(4)}"
        self.words = words
        self.steps = list(steps)
        self.requests: list[Request] = []

    def message(self, text: str = "please") -> str:
        """A message for the loop that makes the model follow this script."""
        return f"{text} [[{self.marker}]]"

    def take(self, request: Request) -> Step:
        self.requests.append(request)
        number = len(self.requests) - 1
        return self.steps[number] if number < len(self.steps) else [Text("(nothing more)")]


# --------------------------------------------------------------------------- the two dialects


def _sse(data: dict[str, Any], event: str | None = None) -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


class _Broken(Exception):
    """The connection is to be dropped."""


async def _anthropic(request: Request, parts: Sequence[Part]) -> AsyncIterator[bytes]:
    def send(kind: str, **data: Any) -> bytes:
        return _sse({"type": kind, **data}, kind)

    usage = {"input_tokens": 10, "output_tokens": 1,
             "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}  # fmt: skip
    message = {"id": f"msg_{secrets.token_hex(6)}", "type": "message", "role": "assistant",
               "model": request.body["model"], "content": [], "stop_reason": None,
               "stop_sequence": None, "usage": usage}  # fmt: skip
    yield send("message_start", message=message)
    numbers = itertools.count()
    open_block: tuple[int, type] | None = None
    for part in parts:
        if isinstance(part, Hold):
            yield send("ping")
            await part.gate.pass_through()
            continue
        if isinstance(part, Break):
            if part.error is None:
                raise _Broken
            yield send("error", error={"type": part.error, "message": "the mock breaks"})
            return
        if open_block is not None and (open_block[1] is not type(part) or isinstance(part, Tool)):
            yield send("content_block_stop", index=open_block[0])
            open_block = None
        if open_block is None:
            open_block = (next(numbers), type(part))
            yield send("content_block_start", index=open_block[0], content_block=_block(part))
        for delta in _deltas(part):
            yield send("content_block_delta", index=open_block[0], delta=delta)
    if open_block is not None:
        yield send("content_block_stop", index=open_block[0])
    called = any(isinstance(p, Tool) for p in parts)
    stop = {"stop_reason": "tool_use" if called else "end_turn", "stop_sequence": None}
    yield send("message_delta", delta=stop, usage={"output_tokens": 7})
    yield send("message_stop")


async def _whole_message(request: Request, parts: Sequence[Part]) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Hold):
            await part.gate.pass_through()
        elif isinstance(part, Break):
            raise _Broken
        elif isinstance(part, Tool):
            content.append({**_block(part), "input": json.loads(part.arguments)})
        elif isinstance(part, Thinking):
            content.append({"type": "thinking", "thinking": part.text, "signature": "c2ln"})
        else:
            content.append({"type": "text", "text": part.text})
    called = any(isinstance(p, Tool) for p in parts)
    usage = {"input_tokens": 10, "output_tokens": 7,
             "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}  # fmt: skip
    return {"id": f"msg_{secrets.token_hex(6)}", "type": "message", "role": "assistant",
            "model": request.body["model"], "content": content, "usage": usage,
            "stop_reason": "tool_use" if called else "end_turn", "stop_sequence": None}  # fmt: skip


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, Tool):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
    if isinstance(part, Thinking):
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _deltas(part: Part) -> list[dict[str, Any]]:
    if isinstance(part, Tool):
        half = len(part.arguments) // 2
        pieces = (part.arguments[:half], part.arguments[half:])
        return [{"type": "input_json_delta", "partial_json": p} for p in pieces]
    if isinstance(part, Thinking):
        return [
            {"type": "thinking_delta", "thinking": part.text},
            {"type": "signature_delta", "signature": "c2ln"},
        ]
    assert isinstance(part, Text)
    return [{"type": "text_delta", "text": part.text}]


async def _openai(request: Request, parts: Sequence[Part]) -> AsyncIterator[bytes]:
    ident = f"chatcmpl-{secrets.token_hex(6)}"

    def send(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _sse({"id": ident, "object": "chat.completion.chunk", "created": 1,
                     "model": request.body["model"], "choices": [choice], **more})  # fmt: skip

    yield send({"role": "assistant", "content": ""})
    calls = itertools.count()
    for part in parts:
        if isinstance(part, Hold):
            await part.gate.pass_through()
        elif isinstance(part, Break):
            if part.error is None:
                raise _Broken
            yield _sse({"error": {"type": part.error, "message": "the mock breaks"}})
            return
        elif isinstance(part, Text):
            yield send({"content": part.text})
        elif isinstance(part, Thinking):
            yield send({"reasoning_content": part.text})
        else:
            index, half = next(calls), len(part.arguments) // 2
            head = {"name": part.name, "arguments": part.arguments[:half]}
            call = {"index": index, "id": part.id, "type": "function", "function": head}
            yield send({"tool_calls": [call]})
            tail = {"index": index, "function": {"arguments": part.arguments[half:]}}
            yield send({"tool_calls": [tail]})
    yield send({}, "tool_calls" if any(isinstance(p, Tool) for p in parts) else "stop")
    usage = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
             "prompt_tokens_details": {"cached_tokens": 3}}  # fmt: skip
    yield _sse({"id": ident, "object": "chat.completion.chunk", "created": 1,
                "model": request.body["model"], "choices": [], "usage": usage})  # fmt: skip
    yield b"data: [DONE]\n\n"


DIALECTS: dict[str, Callable[[Request, Sequence[Part]], AsyncIterator[bytes]]] = {
    "/v1/messages": _anthropic,
    "/v1/chat/completions": _openai,
}


# --------------------------------------------------------------------------- the server


class MockModel:
    """The server, on a thread with its own event loop."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._scripts: dict[str, Script] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script(self, *steps: Step, words: str | None = None) -> Script:
        """A script for the message that holds its marker, or that holds ``words``."""
        script = Script(steps, words)
        self._scripts[script.marker] = script
        return script

    def __enter__(self) -> MockModel:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(WAIT)
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(WAIT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT)
        self._loop.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**26)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._answer(await self._read(reader), reader, writer)
        except (_Broken, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(":", 1) for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(
            head[0].split(" ")[1].split("?")[0], headers, json.loads(raw) if raw else {}
        )
        self.requests.append(request)
        return request

    def _step(self, request: Request) -> Step:
        for text in reversed(request.user_texts()):
            markers = MARKER.findall(text)
            if markers:
                return self._scripts[markers[-1]].take(request)
            for script in reversed(self._scripts.values()):
                if script.words is not None and script.words in text:
                    return script.take(request)
        return [Text("Hello "), Text("from the mock.")]

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        dialect = DIALECTS.get(request.path)
        step = Fail(404, f"no {request.path} here") if dialect is None else self._step(request)
        if isinstance(step, Fail):
            await self._refuse(step, writer)
            return
        assert dialect is not None
        if request.body.get("stream") is not True:
            assert request.api == "anthropic", "only streaming requests are scripted"
            await self._answer_whole(request, step, writer)
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        )
        gone = asyncio.ensure_future(reader.read())  # ends when the client hangs up
        sending = asyncio.ensure_future(self._send(dialect(request, step), writer))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (gone, sending):
                task.cancel()
            await asyncio.gather(gone, sending, return_exceptions=True)

    @staticmethod
    async def _answer_whole(
        request: Request, parts: Sequence[Part], writer: asyncio.StreamWriter
    ) -> None:
        """The answer in one piece, as a client asks for that gave up streaming."""
        body = json.dumps(await _whole_message(request, parts))
        writer.write(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()

    @staticmethod
    async def _send(chunks: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
        async for chunk in chunks:
            writer.write(chunk)
            await writer.drain()

    @staticmethod
    async def _refuse(step: Fail, writer: asyncio.StreamWriter) -> None:
        kind = "overloaded_error" if step.status in {503, 529} else "api_error"
        body = json.dumps({"type": "error", "error": {"type": kind, "message": step.message}})
        retry = f"Retry-After: {step.retry_after}\r\n" if step.retry_after is not None else ""
        writer.write(
            f"HTTP/1.1 {step.status} Refused\r\nContent-Type: application/json\r\n{retry}"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()


# --------------------------------------------------------------------------- common calls


def bash(command: str, **more: Any) -> Tool:
    return Tool("Bash", {"command": command, **more})


def ask(*questions: dict[str, Any]) -> Tool:
    return Tool("AskUserQuestion", {"questions": list(questions)})


def asked(text: str, *options: str, multi: bool = False, header: str = "Pick") -> dict[str, Any]:
    """One question as the model asks it."""
    labels = [{"label": label, "description": f"about {label}"} for label in options]
    return {"question": text, "header": header, "options": labels, "multiSelect": multi}
