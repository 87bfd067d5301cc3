"""The SDK's transport to a CLI in a sandbox: its standard streams, over ``Sandbox.spawn``.

A transport of our own rather than ``cli_path`` and a wrapper: no process outside, no second pipe,
and the sandbox's own windows bound what a flooding CLI can make the server hold.

The CLI writes one JSON object a line. Those of the control protocol go on to the SDK; all others
go to the agent's inbox, in order. What the CLI says it has stored (``transcript_mirror``) is noted
here and goes no further.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ...loops.errors import SandboxLost
from ...loops.ports.sandbox import Process

LINE_MAX = 32 << 20
"""Bytes of one line. A picture that a tool read is one line."""
GARBAGE_MAX = 20
"""Lines that are no JSON object before the CLI is given up; a stray warning is forgiven."""
STDERR_KEPT = 4000
EXIT_GRACE = 2.0
"""Seconds the CLI gets to end by itself before it is killed."""
CONTROL = frozenset({"control_request", "control_response", "control_cancel_request"})
USER_ROW = b'"type":"user"'
MIRROR = b'{"type":"transcript_mirror"'


class PipeBroken(Exception):
    """The CLI does not keep to its protocol; the message says how."""


class SandboxTransport:
    """Has the shape of the SDK's ``Transport``; ``take`` is given every other message."""

    def __init__(
        self,
        open_process: Callable[[], Awaitable[Process]],
        take: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._open = open_process
        self._take = take
        self._process: Process | None = None
        self._errors: asyncio.Task[None] | None = None
        self._said: deque[str] = deque(maxlen=40)
        self._garbage = 0
        self._stored: dict[bytes, asyncio.Event] = {}
        self.has_stored = False
        """Its session file has a message, so it can be resumed."""
        self.torn = False
        """A line was written in part: nothing can be said to this CLI any more."""
        self.failure: str | None = None
        """How it ended, once it has."""

    # ------------------------------------------------------------------ the SDK's side

    async def connect(self) -> None:
        self._process = await self._open()
        self._errors = asyncio.get_running_loop().create_task(self._read_errors(self._process))

    def is_ready(self) -> bool:
        return self._process is not None and self.failure is None

    async def write(self, data: str) -> None:
        assert self._process is not None
        if self.torn or self.failure is not None:
            raise BrokenPipeError("The agent's program has ended.")
        try:
            await self._process.write(data.encode("utf-8", "replace"))
        except BaseException:
            self.torn = True
            raise

    async def end_input(self) -> None:
        if self._process is not None and self.failure is None:
            await self._process.close_stdin()

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """The control protocol; everything else goes to ``take`` on the way."""
        try:
            async for line in self._lines():
                if line.startswith(MIRROR):
                    self._note_stored(line)
                    continue
                message = self._parse(line)
                if message is None:
                    continue
                if message.get("type") in CONTROL:
                    yield message
                else:
                    await self._take(message)
            self.failure = await self._why_it_ended()
        except PipeBroken as error:
            self.failure = str(error)
        except SandboxLost as error:
            self.failure = f"its sandbox ended: {error.message}"
        await self._take({"type": "loopat_gone"})

    async def close(self) -> None:
        """End the CLI and wait for its end; bounded."""
        if self._process is not None:
            await self._end(self._process)
        if self._errors is not None:
            self._errors.cancel()
            await asyncio.wait([self._errors])

    # ------------------------------------------------------------------ ours

    @property
    def pid(self) -> int | None:
        """The CLI's process id, inside."""
        return None if self._process is None else self._process.pid

    async def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the CLI at once. What its tools started lives on: it has sessions of its own."""
        if self._process is not None:
            try:
                await self._process.kill(how)
            except SandboxLost:
                return

    @property
    def stderr(self) -> str:
        """The last lines of its stderr."""
        return "\n".join(self._said)[-STDERR_KEPT:]

    def stored(self, text: str) -> asyncio.Event:
        """Set when a row that holds ``text`` has come to its session file."""
        return self._stored.setdefault(text.encode(), asyncio.Event())

    def forget_stored(self) -> None:
        self._stored.clear()

    def _note_stored(self, line: bytes) -> None:
        self.has_stored = self.has_stored or USER_ROW in line
        for text, event in self._stored.items():
            if text in line:
                event.set()

    # ------------------------------------------------------------------ streams

    async def _lines(self) -> AsyncIterator[bytes]:
        assert self._process is not None
        rest = bytearray()
        while chunk := await self._process.read():
            start = 0
            while (end := chunk.find(b"\n", start)) >= 0:
                rest += chunk[start:end]
                line, rest = bytes(rest), bytearray()
                start = end + 1
                if line.strip():
                    yield line
            rest += chunk[start:]
            if len(rest) > LINE_MAX:
                raise PipeBroken(f"it wrote a line of more than {LINE_MAX >> 20} MiB")
            await asyncio.sleep(0)  # one that floods must not keep the loop to itself

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict) and isinstance(message.get("type"), str):
            return message
        self._said.append(line[:200].decode("utf-8", "replace"))
        self._garbage += 1
        if self._garbage > GARBAGE_MAX:
            raise PipeBroken("it writes what is not its protocol")
        return None

    async def _why_it_ended(self) -> str:
        assert self._process is not None
        code = await self._process.wait()
        if code < 0:
            return f"it was killed (signal {-code})"
        return f"it ended with code {code}"

    async def _read_errors(self, process: Process) -> None:
        try:
            while chunk := await process.read_stderr():
                for line in chunk[-STDERR_KEPT:].decode("utf-8", "replace").splitlines():
                    if line.strip():
                        self._said.append(line[:500])
        except SandboxLost:
            return

    async def _end(self, process: Process) -> None:
        try:
            await process.close_stdin()
            await process.kill(signal.SIGTERM)
            try:
                async with asyncio.timeout(EXIT_GRACE):
                    await process.wait()
            except TimeoutError:
                await process.kill(signal.SIGKILL)
        except (SandboxLost, BrokenPipeError):
            return
