"""An egress proxy in process, used over real sockets; its destinations are servers on loopback.

The proxy refuses loopback, so these tests give it a resolver and an
``is_public`` of their own: names below ``test`` lead to 127.0.0.1, and 127.0.0.1 is the internet.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import h11
import pytest

from loopat_jupyter.loops.destinations import parse_pattern
from loopat_jupyter.loops.ports.network import AuditEntry, Egress, Headers, ModelRequestRefused
from loopat_jupyter.sandboxes.proxy.connection_limit import ConnectionLimiter
from loopat_jupyter.sandboxes.proxy.dialer import Dialer
from loopat_jupyter.sandboxes.proxy.server import EgressProxyServer

TIMEOUT = 20.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def resolve(host: str, port: int) -> list[str]:
    if host.endswith(".test") or host == "127.0.0.1":
        return ["127.0.0.1"]
    raise OSError("no such name")


class Client:
    """A client of the proxy: sends raw bytes, reads bytes or a parsed response."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def rest(self) -> bytes:
        """Everything until the proxy closes."""
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.read()

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.readexactly(count)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(TIMEOUT):
            raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rows = raw.split("\r\n")[:-2]
        pairs = (row.split(":", 1) for row in rows)
        return int(line.split(" ")[1]), {k.lower(): v.strip() for k, v in pairs}

    async def answer(self, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        if method == "HEAD" or status in (204, 304):
            return status, headers, b""
        if "content-length" in headers:
            return status, headers, await self.exactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, b"".join([piece async for piece in self.chunks()])
        return status, headers, await self.rest()

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.exactly(size + 2))[:-2]
        await self.reader.readuntil(b"\r\n")

    async def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        fields = {"Host": "x", **(headers or {})}
        if body:
            fields["Content-Length"] = str(len(body))
        rows = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.write(f"{method} {target} HTTP/1.1\r\n{rows}\r\n".encode("latin-1") + body)
        return await self.answer(method)

    async def refusal(self, method: str, target: str, **more: Any) -> tuple[int, str, str]:
        """Send a request; the status, code and message of the proxy's own error response."""
        status, _, body = await self.ask(method, target, **more)
        error = json.loads(body)["error"]
        assert error["type"] == "loopat_network"
        return status, error["code"], error["message"]


@dataclass
class ProxyFixture:
    """A proxy, its audit, and the servers outside."""

    stack: AsyncExitStack
    audit: list[AuditEntry] = field(default_factory=list)
    shared: bool = False
    user: int | None = None
    limiter: ConnectionLimiter = field(default_factory=ConnectionLimiter)
    dialer: Dialer = field(default_factory=lambda: Dialer(resolve, lambda address: True))
    proxy: EgressProxyServer = field(init=False)
    port: int = 0

    def open(self) -> ProxyFixture:
        self.proxy = EgressProxyServer(
            "loop_1",
            Egress(),
            self.keep,
            lambda: "now",
            shared=self.shared,
            limiter=self.limiter,
            dialer=self.dialer,
        )
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = listener.getsockname()[1]
        self.proxy.start(listener, private=self.shared, uid=self.user)
        self.stack.push_async_callback(self.proxy.close)
        return self

    async def keep(self, line: AuditEntry) -> None:
        self.audit.append(line)

    def allow(self, *patterns: str) -> None:
        self.proxy.set_policy(Egress(tuple(map(parse_pattern, patterns))))

    async def client(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.stack.callback(lambda: writer.transport.abort())
        return Client(reader, writer)

    async def server(self, serve: Serve, **options: Any) -> int:
        """A server outside; its port. What it still does at the end is cancelled."""
        tasks: set[asyncio.Task[None]] = set()

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                return
            finally:
                tasks.discard(task)
                writer.close()

        async def stop() -> None:
            server.close()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

        server = await asyncio.start_server(run, "127.0.0.1", 0, **options)
        self.stack.push_async_callback(stop)
        return int(server.sockets[0].getsockname()[1])

    async def audited(self) -> list[AuditEntry]:
        """The audit when everything is over."""
        await self.proxy.close()
        return self.audit


@pytest.fixture
async def proxied() -> AsyncIterator[ProxyFixture]:
    async with AsyncExitStack() as stack:
        yield ProxyFixture(stack).open()


@pytest.fixture
async def shared_proxied() -> AsyncIterator[ProxyFixture]:
    """A proxy whose listener other users can reach: it requires a key."""
    async with AsyncExitStack() as stack:
        yield ProxyFixture(stack, shared=True).open()


# ------------------------------------------------------------------ servers outside


@dataclass
class WebServer:
    """Answers each connection's requests with ``reply``, and records the requests."""

    reply: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    asked: list[bytes] = field(default_factory=list)
    closes: bool = True

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        seen = bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(65536)
                seen += data
                http.receive_data(data)
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                return
        self.asked.append(bytes(seen))
        writer.write(self.reply)
        await writer.drain()
        if not self.closes:
            await reader.read()


# ------------------------------------------------------------------ a model upstream


@dataclass
class Answer:
    pieces: list[bytes] = field(default_factory=lambda: [b"data: hi\n\n"])
    status: int = 200
    headers: Headers = (("content-type", "text/event-stream"),)
    gate: asyncio.Event | None = None
    closed: bool = False
    broken: bool = False

    async def body(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.broken:
            raise OSError("the line went dead")
        if self.gate is not None:
            await self.gate.wait()

    async def close(self) -> None:
        self.closed = True


@dataclass
class Upstream:
    """A model provider, as an engine opens it to the gateway."""

    answer: Answer = field(default_factory=Answer)
    host: str = "model.test"
    port: int = 443
    fails: Exception | None = None
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False

    async def send_request(
        self, method: str, target: str, headers: Headers, body: AsyncIterator[bytes] | None
    ) -> Answer:
        if isinstance(self.fails, ModelRequestRefused):
            raise self.fails
        data = b"".join([piece async for piece in body]) if body is not None else b""
        self.asked.append((method, target, dict(headers), data))
        self.reached.set()
        if self.fails is not None:
            raise self.fails
        if self.silent:
            await asyncio.Event().wait()
        return self.answer
