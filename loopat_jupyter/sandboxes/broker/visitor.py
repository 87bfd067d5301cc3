"""One connection from inside: HTTP/1.1 read strictly, and answered.

:mod:`h11` parses; this adds the streams, the bounds on time and size, and answers of our own. A
visitor that breaks the protocol gets one answer and is gone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import h11

from loopat_jupyter.loops.network import Headers

HEAD_LIMIT = 64 * 1024
"""Bytes of a request's line and headers."""
READ_SIZE = 64 * 1024
IDLE = 300.0
"""Seconds in which a kept connection may send its next request, or go on with one."""


class Gone(Exception):
    """The visitor left, was silent too long, or does not speak HTTP/1.1."""


class Visitor:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self.received = 0
        self.sent = 0

    async def request(self) -> h11.Request | None:
        """The next request; ``None`` when there is none any more. Raises :class:`Gone`."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        if self._http.our_state is not h11.IDLE:
            return None
        self.received = self.sent = 0
        try:
            event = await self._event()
        except h11.RemoteProtocolError as error:
            await self.refuse(error.error_status_hint, "bad_request", "This is no valid HTTP/1.1.")
            raise Gone from error
        return event if isinstance(event, h11.Request) else None

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body as it comes. Raises :class:`Gone`."""
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        try:
            while isinstance(event := await self._event(), h11.Data):
                self.received += len(event.data)
                yield bytes(event.data)
        except h11.RemoteProtocolError as error:
            raise Gone from error
        if not isinstance(event, h11.EndOfMessage):
            raise Gone

    def has_body(self, request: h11.Request) -> bool:
        names = {name for name, _ in request.headers}
        return b"content-length" in names or b"transfer-encoding" in names

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                async with asyncio.timeout(IDLE):
                    data = await self.reader.read(READ_SIZE)
            except (OSError, TimeoutError) as error:
                raise Gone from error
            self._http.receive_data(data)
        return event

    # ------------------------------------------------------------------ answers

    async def begin(self, status: int, headers: Headers, reason: str = "") -> None:
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send(
            h11.Response(status_code=status, headers=encoded, reason=reason.encode("ascii"))
        )

    async def send(self, data: bytes) -> None:
        self.sent += len(data)
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        await self._send(h11.EndOfMessage())

    async def refuse(self, status: int, code: str, why: str) -> None:
        """Answer with an error that says why, in the body and in the status line: clients of a
        proxy show the one or the other."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            raise Gone  # an answer is under way: all that can be done is to break it off
        body = json.dumps({"error": {"type": "loopat_network", "code": code, "message": why}})
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        # What is left of a request's body is not read.
        await self.begin(status, [*headers, ("connection", "close")], why[:200])
        await self.send(body.encode())
        await self.end()

    async def tunnel(self) -> bytes:
        """Say that the tunnel stands; what the visitor has sent into it already."""
        await self._send(
            h11.Response(status_code=200, headers=[], reason=b"Connection established")
        )
        early, _ = self._http.trailing_data
        return early

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            await self.write(data)

    async def write(self, data: bytes) -> None:
        try:
            self.writer.write(data)
            async with asyncio.timeout(IDLE):
                await self.writer.drain()
        except (OSError, TimeoutError) as error:
            raise Gone from error
