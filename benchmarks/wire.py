"""The load's HTTP: as little as possible, because it shares the cores with what is measured.

:class:`Connection` asks and waits (one request at a time, kept alive). :class:`Tap` listens to a
stream without decoding it: it looks for the model's time stamps in the raw bytes and notes how
long ago each was written. Both stamp arrivals with the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

STAMP = re.compile(rb"~(\d+)~")
TAIL = 32
"""Bytes of a chunk that may be the beginning of a stamp."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the header fields (names in lower case) of a message."""

    line: str
    fields: dict[str, str]


async def read_head(reader: asyncio.StreamReader) -> Head:
    raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rows = raw.split("\r\n")[:-2]
    pairs = (row.split(":", 1) for row in rows)
    return Head(line, {name.lower(): value.strip() for name, value in pairs})


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and the headers they carry. ``base`` is the path before each path."""

    port: int
    base: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        data = b"" if body is None else json.dumps(body).encode()
        fields = {"Host": f"127.0.0.1:{self.port}", **dict(self.headers), **(headers or {})}
        if method != "GET":
            fields |= {"Content-Length": str(len(data)), "Content-Type": "application/json"}
        rows = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{method} {self.base}{path} HTTP/1.1\r\n{rows}\r\n".encode() + data


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Times in monotonic nanoseconds: request written, head here, all here."""

    status: int
    body: bytes
    sent: int
    head: int
    done: int

    def json(self) -> Any:
        return json.loads(self.body)


class Refused(Exception):
    """The server did not answer as a benchmark expects."""


class Connection:
    """One kept-alive connection. Use as an asynchronous context manager."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Connection:
        opened = asyncio.open_connection("127.0.0.1", self._target.port, limit=1 << 24)
        self._reader, self._writer = await opened
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def open(self, method: str, path: str, body: Any = None) -> tuple[int, int]:
        """Send, and wait for the head of a successful answer; when sent and when it came."""
        sent = time.monotonic_ns()
        self._writer.write(self._target.request(method, path, body))
        self._head = await read_head(self._reader)
        arrived = time.monotonic_ns()
        if not 200 <= int(self._head.line.split()[1]) < 300:
            text = (await self._rest())[:500]
            raise Refused(f"{method} {path}: {self._head.line} {text!r}")
        return sent, arrived

    async def chunk(self) -> tuple[bytes, int]:
        """The next chunk of a stream and when it came; ``b""`` at its end."""
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        data = await self._reader.readexactly(size + 2)
        return data[:-2], time.monotonic_ns()

    async def _rest(self) -> bytes:
        length = self._head.fields.get("content-length")
        if length is not None:
            return await self._reader.readexactly(int(length))
        parts = []
        if "chunked" in self._head.fields.get("transfer-encoding", ""):
            while part := (await self.chunk())[0]:
                parts.append(part)
        return b"".join(parts)

    async def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Send and read the whole answer. Raises :class:`Refused` when it is no success."""
        sent, head = await self.open(method, path, body)
        data = await self._rest()
        return Answer(int(self._head.line.split()[1]), data, sent, head, time.monotonic_ns())

    async def marks(self, method: str, path: str, body: Any, names: list[bytes]) -> list[int]:
        """Send, read the stream to its end; when sent, when its head came, and when each of
        ``names`` was first seen in it (0: never)."""
        sent, head = await self.open(method, path, body)
        seen = dict.fromkeys(names, 0)
        while True:
            data, arrived = await self.chunk()
            if not data:
                return [sent, head, *seen.values()]
            for name, when in seen.items():
                if not when and name in data:
                    seen[name] = arrived


class Tap(asyncio.Protocol):
    """Listens to one stream until ``expected`` stamps came, or ``until`` came so many ``times``.

    With neither it just listens.
    """

    def __init__(self, expected: int = 0, until: bytes = b"", times: int = 1) -> None:
        self.delays = array("q")
        """Nanoseconds between the model's writing and the arrival here, in order."""
        self.size = 0
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.complete: asyncio.Future[int] = loop.create_future()
        self._expected = expected
        self._until = until
        self._times = times
        self._tail = b""
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, target: Target, path: str, make: Callable[[], Tap]) -> Tap:
        """Connect and ask; returns when the head of the answer is here."""
        loop = asyncio.get_running_loop()
        transport, tap = await loop.create_connection(make, "127.0.0.1", target.port)
        tap._transport = transport
        transport.write(target.request("GET", path, headers={"Accept": "text/event-stream"}))
        await tap.opened
        return tap

    def data_received(self, data: bytes) -> None:
        arrived = time.monotonic_ns()
        self.size += len(data)
        if not self.opened.done():
            self._begin(data)
        data = self._tail + data
        seen = self._count(data) if self._until else self._note_stamps(data, arrived)
        if seen and not self.complete.done():
            self.complete.set_result(arrived)

    def _note_stamps(self, data: bytes, arrived: int) -> bool:
        end = 0
        for found in STAMP.finditer(data):
            self.delays.append(arrived - int(found[1]))
            end = found.end()
        self._tail = data[max(end, len(data) - TAIL) :]
        return len(self.delays) >= self._expected > 0

    def _count(self, data: bytes) -> bool:
        self._times -= data.count(self._until)
        found = data.rfind(self._until)
        end = 0 if found < 0 else found + len(self._until)
        self._tail = data[max(end, len(data) - len(self._until) + 1) :]
        return self._times <= 0

    def _begin(self, data: bytes) -> None:
        line = data.split(b"\r\n", 1)[0]
        if b" 200 " in line:
            self.opened.set_result(None)
        else:
            self.opened.set_exception(Refused(repr(data[:500])))

    def connection_lost(self, exc: Exception | None) -> None:
        lost = Refused(f"the stream ended after {len(self.delays)} of {self._expected} deltas")
        for future in (self.opened, self.complete):
            if not future.done():
                future.set_exception(lost)

    def close(self) -> None:
        if not self.complete.done():
            self.complete.cancel()
        self._transport.close()
