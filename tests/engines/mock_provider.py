"""Providers on 127.0.0.1 that answer what a test scripted, in the wire formats of their APIs.

A plain HTTP/1.1 server: each request takes the next :class:`Reply`. What was asked is kept.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    """``chunks`` are sent one by one. ``hold``: then wait until the client is gone.
    ``cut``: then drop the connection without ending the answer."""

    chunks: Sequence[str] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hold: bool = False
    cut: bool = False
    kind: str = "text/event-stream"


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class MockProvider:
    """``url`` is its address without a path."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []
        self.gone = asyncio.Event()
        self.served = asyncio.Event()
        self.connections = 0
        self.url = ""
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                if not await self._answer(self.replies.pop(0), reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()
            del self._open[task]
            self.gone.set()

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    async def close(self) -> None:
        """Drop all connections; returns when nobody serves any more."""
        tasks = list(self._open)
        for writer in list(self._open.values()):
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(
        self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        headers = {"content-type": reply.kind, "transfer-encoding": "chunked", **reply.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} Said\r\n{lines}\r\n".encode())
        for chunk in reply.chunks:
            data = chunk.encode()
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
        if reply.hold:
            await reader.read(1)
            self.gone.set()
            return False
        if reply.cut:
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        self.served.set()
        return True


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(first.split(" ")[1], headers, json.loads(body))


@asynccontextmanager
async def serving() -> AsyncIterator[MockProvider]:
    provider = MockProvider()
    server = await asyncio.start_server(provider._serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()
        await provider.close()


# ------------------------------------------------------------------ Anthropic Messages API


def _event(name: str, **data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n"


def anthropic(*blocks: dict[str, Any], stop: str | None = None, **usage: int) -> list[str]:
    """A streamed message of ``blocks`` (see the makers below), one SSE event a chunk."""
    counted = {"input_tokens": 10, "output_tokens": 1, **usage}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": counted,
    }
    chunks = [_event("message_start", message=message), _event("ping")]
    for index, block in enumerate(blocks):
        chunks.append(_event("content_block_start", index=index, content_block=block["start"]))
        chunks += [
            _event("content_block_delta", index=index, delta=delta) for delta in block["deltas"]
        ]
        chunks.append(_event("content_block_stop", index=index))
    calls = any(block["start"]["type"] == "tool_use" for block in blocks)
    reason = stop or ("tool_use" if calls else "end_turn")
    chunks.append(
        _event(
            "message_delta",
            delta={"stop_reason": reason, "stop_sequence": None},
            usage={"output_tokens": usage.get("output_tokens", 7)},
        )
    )
    return [*chunks, _event("message_stop")]


def text_block(*pieces: str) -> dict[str, Any]:
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
    return {"start": {"type": "text", "text": ""}, "deltas": deltas}


def thinking_block(*pieces: str, signature: str) -> dict[str, Any]:
    deltas: list[dict[str, str]] = [
        {"type": "thinking_delta", "thinking": piece} for piece in pieces
    ]
    deltas.append({"type": "signature_delta", "signature": signature})
    return {"start": {"type": "thinking", "thinking": "", "signature": ""}, "deltas": deltas}


def call_block(id: str, name: str, *pieces: str) -> dict[str, Any]:
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return {"start": {"type": "tool_use", "id": id, "name": name, "input": {}}, "deltas": deltas}


def anthropic_error(kind: str, message: str) -> str:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}})


def anthropic_error_event(kind: str, message: str) -> str:
    return f"event: error\ndata: {anthropic_error(kind, message)}\n\n"


# ------------------------------------------------------------------ OpenAI Chat Completions


def openai(
    *deltas: dict[str, Any], finish: str | None = "stop", usage: dict[str, Any] | None = None
) -> list[str]:
    """A streamed completion of ``deltas``, one SSE event a chunk."""

    def chunk(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "test",
            "choices": [choice],
        }

    objects = [chunk(delta, None) for delta in deltas]
    if finish is not None:
        objects.append(chunk({}, finish))
    if usage is not None:
        objects.append({**chunk({}, None), "choices": [], "usage": usage})
    return [*(f"data: {json.dumps(one)}\n\n" for one in objects), "data: [DONE]\n\n"]


def call_delta(index: int, arguments: str, **head: str) -> dict[str, Any]:
    """A fragment of a tool call; ``id`` and ``name`` come with the first one."""
    function = {"arguments": arguments}
    if "name" in head:
        function["name"] = head["name"]
    call: dict[str, Any] = {"index": index, "function": function}
    if "id" in head:
        call |= {"id": head["id"], "type": "function"}
    return {"tool_calls": [call]}


def replies(*streams: Iterable[str]) -> list[Reply]:
    return [Reply(list(stream)) for stream in streams]
