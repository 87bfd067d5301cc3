"""JSON lines over the standard streams of an agent's process: one JSON object a line.

The transports of both agent engines read and write through :class:`JsonLinesStream`. It frames
lines, bounds them, decodes them off the event loop where they are long, and counts what is no
message, so that a program which never speaks the protocol is given up. What a message means is left
to the transports.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...loops.ports.sandbox import Process
from .errors import one_line

DECODE_IN_THREAD = 256 * 1024
"""Bytes of a line from which on it is decoded in a thread."""


class LineTooLong(Exception):
    """A line was longer than the limit. ``limit`` is in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a line of more than {limit >> 20} MiB")
        self.limit = limit


class TooMuchGarbage(Exception):
    """The process wrote more lines without a message than is tolerated."""


@dataclass(frozen=True, slots=True)
class JsonLinesLimits:
    """Bytes of one line, and of all lines together that hold no message: programs may print a
    greeting or a warning to stdout."""

    line: int = 8 * 1024 * 1024
    garbage: int = 64 * 1024


class JsonLinesStream:
    """stdout and stdin of one process. One reader; writes may come from several tasks."""

    def __init__(
        self,
        process: Process,
        is_message: Callable[[dict[str, Any]], bool],
        limits: JsonLinesLimits,
    ) -> None:
        """``is_message``: whether a JSON object is well-formed enough for the protocol."""
        self._process = process
        self._is_message = is_message
        self._limits = limits
        self._buffer = bytearray()
        self._scanned = 0
        self._garbage_left = limits.garbage
        self.last_garbage = ""
        """The last line that held no message, shortened; empty if there was none."""
        self.broken = False
        """A write failed or was cancelled, so part of a line may have been written: whatever
        follows it would be read as the rest of that line."""

    async def write(self, data: bytes) -> None:
        """Write whole lines; returns when the sandbox has taken them.

        Raises:
            OSError: the process has closed its stdin, or an earlier write failed.
            SandboxLost: the sandbox has ended.
        """
        if self.broken:
            raise BrokenPipeError("The agent's program cannot be written to any more.")
        try:
            await self._process.write(data)
        except BaseException:
            self.broken = True
            raise

    async def read_line(self) -> bytes | None:
        """The next line without its line feed; ``None`` at the end of the stream, where a line
        without a line feed is dropped.

        Raises:
            LineTooLong: the line exceeds the limit. The stream cannot be read any further.
            SandboxLost: the sandbox has ended.
        """
        while True:
            end = self._buffer.find(b"\n", self._scanned)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._scanned = 0
                return line
            self._scanned = len(self._buffer)
            if self._scanned > self._limits.line:
                raise LineTooLong(self._limits.line)
            chunk = await self._process.read()
            if not chunk:
                return None
            self._buffer += chunk
            # read() returns without a switch of tasks while chunks are buffered; a process that
            # writes without pause must not hold the event loop.
            await asyncio.sleep(0)

    async def decode(self, line: bytes) -> dict[str, Any] | None:
        """The message in ``line``; ``None`` where it holds none.

        Raises:
            TooMuchGarbage: it holds none, and the limit of such lines is exceeded by it.
        """
        try:
            if len(line) < DECODE_IN_THREAD:
                message = _loads(line)
            else:
                message = await asyncio.to_thread(_loads, line)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict) and self._is_message(message):
            return message
        if line.strip():
            self._count_garbage(line)
        return None

    def _count_garbage(self, line: bytes) -> None:
        self.last_garbage = one_line(line[:2000].decode(errors="replace"))
        self._garbage_left -= len(line)
        if self._garbage_left < 0:
            raise TooMuchGarbage


def _loads(line: bytes) -> Any:
    """JSON only: ``NaN``, the infinities and numbers beyond a double could not be stored."""
    return json.loads(line, parse_constant=_reject, parse_float=_finite)


def _reject(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _reject(text)
