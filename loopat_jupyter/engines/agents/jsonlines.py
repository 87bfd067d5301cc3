"""The agent's streams as messages: JSON-RPC, one object a line, over a process in the sandbox.

Implements the SDK's transport. Session updates leave the stream here, before the SDK would start a
task for each: so they keep their order, and an agent that floods waits until they are taken. The
SDK sees answers, permission requests and forms alone; requests for what we do not offer are refused
here.
What comes is bounded: a line has a limit, so have the open requests, and so has what is no message
at all (a program that greets on its stdout is forgiven a little).
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...loops.errors import SandboxLost
from ...loops.ports.sandbox import Process
from ..acp.errors import one_line

IN_A_THREAD = 256 * 1024
"""Bytes of a line from which on it is parsed off the event loop."""

METHOD_NOT_FOUND = -32601
OFFERED = frozenset({"session/request_permission", "elicitation/create"})
"""What the agent may ask of us."""

Update = Callable[[Mapping[str, Any]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Bytes of one line, and of what is no message; requests that wait for our answer."""

    line: int = 8 * 1024 * 1024
    garbage: int = 64 * 1024
    requests: int = 64


class JsonLinesTransport:
    """``failure``: why nothing comes any more, ``None`` while it does and after a plain end.
    ``garbage``: the last line that was no message."""

    def __init__(self, process: Process, on_update: Update, limits: TransportLimits) -> None:
        self._process = process
        self._on_update = on_update
        self._limits = limits
        self._buffer = bytearray()
        self._scanned = 0
        self._garbage_left = limits.garbage
        self._open_requests = 0
        self.ended = asyncio.Event()
        self.failure: str | None = None
        self.garbage = ""

    # ------------------------------------------------------------------ the SDK's transport

    async def send(self, message: dict[str, Any]) -> None:
        if "method" not in message:
            self._open_requests -= 1
        try:
            await self._process.write(json.dumps(message, default=str).encode() + b"\n")
        except (OSError, SandboxLost) as error:
            if "method" in message:
                raise ConnectionError(str(error)) from error
            # An answer that nobody is there to read.

    async def receive(self) -> dict[str, Any] | None:
        try:
            while (line := await self._line()) is not None:
                message = await self._parse(line)
                if message is not None and await self._is_for_the_sdk(message):
                    return message
        except SandboxLost as error:
            self.failure = f"has lost its sandbox: {error.message}"
        self.ended.set()
        return None

    async def _is_for_the_sdk(self, message: dict[str, Any]) -> bool:
        method = message.get("method")
        if method is None:
            return True
        if "id" not in message:
            if method == "session/update" and isinstance(message.get("params"), dict):
                await self._on_update(message["params"])
            return False
        self._open_requests += 1
        if self._open_requests > self._limits.requests:
            self.failure = f"asked more than {self._limits.requests} things at once and was ended."
            return False
        if method in OFFERED:
            return True
        problem = {"code": METHOD_NOT_FOUND, "message": "This client does not offer that."}
        await self.send({"jsonrpc": "2.0", "id": message["id"], "error": problem})
        return False

    async def close(self) -> None:
        """Nothing to do: the process is ended by who started it."""

    # ------------------------------------------------------------------ lines

    async def _line(self) -> bytes | None:
        """The next line; ``None`` at the end, or when the agent went too far."""
        while self.failure is None:
            end = self._buffer.find(b"\n", self._scanned)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._scanned = 0
                return line
            self._scanned = len(self._buffer)
            if self._scanned > self._limits.line:
                self.failure = (
                    f"sent a line of more than {self._limits.line >> 20} MiB and was ended."
                )
                break
            chunk = await self._process.read()
            if not chunk:
                break
            self._buffer += chunk
        return None

    async def _parse(self, line: bytes) -> dict[str, Any] | None:
        try:
            if len(line) < IN_A_THREAD:
                message = _decode(line)
            else:
                message = await asyncio.to_thread(_decode, line)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict) and _is_message(message):
            return message
        if line.strip():
            self._note_garbage(line)
        return None

    def _note_garbage(self, line: bytes) -> None:
        self.garbage = one_line(line[:2000].decode(errors="replace"))
        self._garbage_left -= len(line)
        if self._garbage_left < 0:
            self.failure = (
                f"does not speak the Agent Client Protocol and was ended. It said: {self.garbage}"
            )


def _is_message(message: dict[str, Any]) -> bool:
    """Whether it is well-formed enough for the SDK."""
    return (
        isinstance(message.get("id"), int | str | None)
        and isinstance(message.get("method"), str | None)
        and ("method" in message or "id" in message)
        and isinstance(message.get("error"), dict | None)
    )


def _decode(line: bytes) -> Any:
    """JSON without the numbers that JSON does not have: they could not be stored."""
    return json.loads(line, parse_constant=_refuse, parse_float=_finite)


def _refuse(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)
