"""The server's end of a spawned process; see :class:`loopat_jupyter.loops.ports.sandbox.Process`.

Memory is bounded in both directions: at most a window of each stream is held until it is read, and
:meth:`StreamedProcess.write` returns when everything was written to the process's stdin.
"""

from __future__ import annotations

import asyncio
import signal as signals
from collections.abc import Callable

from loopat_jupyter.loops.errors import SandboxLost
from loopat_jupyter.sandboxes.inside import protocol
from loopat_jupyter.sandboxes.runtime.channel import ProtocolViolation, parse_end

SendFrame = Callable[[bytes, bytes], None]


class StreamBuffer:
    """The bytes of one stream that have come and were not read yet."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.changed = asyncio.Event()

    def append(self, payload: bytes) -> None:
        if self.ended or len(self.data) + len(payload) > protocol.WINDOW:
            raise ProtocolViolation("more of a stream than its window")
        self.data += payload
        self.changed.set()

    def close(self) -> None:
        self.ended = True
        self.changed.set()


class StreamedProcess:
    """A process inside a sandbox. One reader for each stream at a time."""

    def __init__(self) -> None:
        self._send: SendFrame | None = None
        self._streams = (StreamBuffer(), StreamBuffer())
        self._unwritten = 0
        self._stdin_changed = asyncio.Event()
        self._stdin_closed = False
        self._writing = asyncio.Lock()
        self._error: Exception | None = None
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[int] = loop.create_future()
        self._exit: asyncio.Future[int] = loop.create_future()

    def attach(self, send: SendFrame) -> None:
        """Set the function that sends frames of this process's request."""
        self._send = send

    # ------------------------------------------------------------------ frames

    def receive_frame(self, kind: bytes, payload: bytes) -> bool:
        out, err = self._streams
        if kind == protocol.OUT:
            out.append(payload)
        elif kind == protocol.ERR:
            err.append(payload)
        elif kind == protocol.OUT_END:
            out.close()
        elif kind == protocol.ERR_END:
            err.close()
        elif kind == protocol.STDIN_WRITTEN:
            self._acknowledge(int.from_bytes(payload, "big"))
        elif kind == protocol.STARTED and not self.started.done():
            self.started.set_result(int.from_bytes(payload, "big"))
        elif kind == protocol.EXIT and not self._exit.done():
            self._exit.set_result(int.from_bytes(payload, "big", signed=True))
        elif kind == protocol.END:
            self._finish(parse_end(payload))
            return True
        else:
            raise ProtocolViolation("an unexpected frame")
        return False

    def _acknowledge(self, count: int) -> None:
        if count == protocol.STDIN_CLOSED:
            self._stdin_closed = True
        elif count > self._unwritten:
            raise ProtocolViolation("more stdin taken than was sent")
        else:
            self._unwritten -= count
        self._stdin_changed.set()

    def _finish(self, end: dict[str, object]) -> None:
        if not self.started.done():
            reason = str(end.get("error", "it could not be started"))[:500]
            self.started.set_exception(OSError(reason))
            self.started.exception()
        for stream in self._streams:
            stream.close()
        self._stdin_closed = True
        self._stdin_changed.set()
        if not self._exit.done():
            self._exit.cancel()

    def lost(self, error: Exception) -> None:
        self._error = error
        for future in (self.started, self._exit):
            if not future.done():
                future.set_exception(error)
                future.exception()  # marks it as retrieved: perhaps nobody waits for it
        for stream in self._streams:
            stream.changed.set()
        self._stdin_changed.set()

    # ------------------------------------------------------------------ the port

    @property
    def pid(self) -> int:
        return self.started.result()

    async def read(self) -> bytes:
        return await self._read(0)

    async def read_stderr(self) -> bytes:
        return await self._read(1)

    async def _read(self, index: int) -> bytes:
        stream = self._streams[index]
        while not stream.data and not stream.ended:
            if self._error is not None:
                raise self._error
            stream.changed.clear()
            await stream.changed.wait()
        data = bytes(stream.data)
        stream.data.clear()
        if data and not stream.ended:
            self._send_frame(protocol.CREDIT, bytes([index]) + len(data).to_bytes(4, "big"))
        return data

    async def write(self, data: bytes) -> None:
        async with self._writing:
            for start in range(0, len(data), protocol.PAYLOAD_MAX):
                piece = data[start : start + protocol.PAYLOAD_MAX]
                await self._wait_written(protocol.WINDOW - len(piece))
                self._unwritten += len(piece)
                self._send_frame(protocol.STDIN, piece)
            await self._wait_written(0)

    async def _wait_written(self, most: int) -> None:
        while True:
            if self._error is not None:
                raise self._error
            if self._unwritten <= most:
                return  # also where stdin was closed after that: the process took it and ended
            if self._stdin_closed:
                raise BrokenPipeError("The process does not read its stdin any more.")
            self._stdin_changed.clear()
            await self._stdin_changed.wait()

    async def close_stdin(self) -> None:
        self._send_frame(protocol.STDIN_END)

    async def resize(self, rows: int, columns: int) -> None:
        self._send_frame(protocol.RESIZE, rows.to_bytes(2, "big") + columns.to_bytes(2, "big"))

    async def kill(self, signal: int = signals.SIGKILL) -> None:
        self._send_frame(protocol.KILL, bytes([signal]))

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    def _send_frame(self, kind: bytes, payload: bytes = b"") -> None:
        if self._error is not None:
            raise self._error
        if self._send is None:
            raise SandboxLost("The process was not started.")
        self._send(kind, payload)
