"""The mock model, OpenAI-compatible, in a process of its own: ``python -m benchmarks.model``.

Each delta's text carries the time at which it was written, ``~NANOSECONDS~`` of the machine's
monotonic clock, which all processes share. What it answers is said in the last user message::

    bench deltas=200 rate=20 start=123456789 phase=0.01 tool=Bash

``deltas`` pieces of text, ``rate`` a second (0: as fast as they are taken), the first one at the
monotonic nanosecond ``start`` (0: at once) plus ``phase`` seconds; or one call of ``tool`` first.
It prints its port and runs until its stdin ends. Raw asyncio, because it shares the machine's
cores with what is measured.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .wire import read_head

ORDER = re.compile(r"\bbench((?: \w+=[\w.]+)*)")
OPENING = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FILLER = " and some words as a model would say"
ARGUMENTS = {
    "Bash": {"command": "true"},
    "AskUserQuestion": {
        "questions": [
            {
                "question": "Tea or coffee?",
                "header": "Drink",
                "options": [
                    {"label": "Tea", "description": "hot"},
                    {"label": "Coffee", "description": "hotter"},
                ],
                "multiSelect": False,
            }
        ]
    },
}


@dataclass(frozen=True, slots=True)
class Order:
    """What one request is to be answered with."""

    deltas: int = 1
    rate: float = 0.0
    start: int = 0
    phase: float = 0.0
    tool: str = ""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Order:
        messages = body["messages"]
        if messages[-1]["role"] == "tool":
            return cls()
        said = next(_flat(m["content"]) for m in reversed(messages) if m["role"] == "user")
        found = ORDER.search(said)
        if found is None:
            return cls()
        given = dict(word.split("=") for word in found[1].split())
        types = {"deltas": int, "rate": float, "start": int, "phase": float, "tool": str}
        return cls(**{f.name: types[f.name](given[f.name]) for f in fields(cls) if f.name in given})

    def __str__(self) -> str:
        told = [(f.name, getattr(self, f.name)) for f in fields(self)]
        words = [f"{name}={value}" for name, value in told if value != getattr(Order(), name)]
        return " ".join(["bench", *words])


def _flat(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _chunk(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    data = {"id": "bench", "object": "chat.completion.chunk", "created": 1, "model": "mock-1"}
    return f"data: {json.dumps({**data, 'choices': [choice], **more})}\n\n".encode()


_BEFORE, _AFTER = _chunk({"role": "assistant", "content": f"~STAMP~{FILLER}"}).split(b"STAMP")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _end(finish: str) -> bytes:
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    last = _chunk({}, finish, usage=usage) + b"data: [DONE]\n\n"
    return _framed(last) + b"0\r\n\r\n"


def _call(tool: str) -> bytes:
    function = {"name": tool, "arguments": json.dumps(ARGUMENTS[tool])}
    call = {"index": 0, "id": f"call_{time.monotonic_ns()}", "type": "function"}
    return _chunk({"role": "assistant", "tool_calls": [{**call, "function": function}]})


async def _stream(writer: asyncio.StreamWriter, order: Order) -> None:
    loop = asyncio.get_running_loop()
    begin = max(time.monotonic_ns(), order.start) / 1e9 + order.phase
    for number in range(order.deltas):
        if order.rate:
            wait = begin + number / order.rate - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
        if writer.is_closing():
            raise ConnectionResetError
        stamp = b"%d" % time.monotonic_ns()
        writer.write(_framed(b"".join((_BEFORE, stamp, _AFTER))))
        if not order.rate and number % 64 == 63:
            await writer.drain()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection, request after request."""
    try:
        while True:
            head = await read_head(reader)
            body = await reader.readexactly(int(head.fields["content-length"]))
            order = Order.of(json.loads(body))
            writer.write(OPENING)
            if order.tool:
                writer.write(_framed(_call(order.tool)) + _end("tool_calls"))
            else:
                await _stream(writer, order)
                writer.write(_end("stop"))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        return  # the server hung up, or this process ends: there is no other way out
    finally:
        writer.close()


async def serve() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
