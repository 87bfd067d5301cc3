"""The Claude SDK's transport to a CLI that runs in a sandbox, over ``Sandbox.spawn``.

It takes the place of the SDK's own subprocess: there is no process outside the sandbox, and the
flow control of the sandbox's streams bounds what a flooding CLI can make the server hold.

The CLI writes one JSON object a line. Those of the control protocol go to the SDK; all others go to
the process's event queue, in order. The CLI's reports of what it has written to its session file
(``transcript_mirror``) are only searched for what somebody waits for.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ...loops.errors import SandboxLost
from ...loops.ports.sandbox import Process
from ..agents.jsonlines import JsonLinesLimits, JsonLinesStream, LineTooLong, TooMuchGarbage
from ..agents.stderr_tail import StderrTail

LIMITS = JsonLinesLimits(line=32 << 20)
"""An image that a tool has read is one line."""
EXIT_GRACE = 2.0
"""Seconds for the CLI to exit by itself before it is killed."""
CONTROL = frozenset({"control_request", "control_response", "control_cancel_request"})
USER_ROW = b'"type":"user"'
MIRROR = b'{"type":"transcript_mirror"'
EXITED = "loopat_exited"
"""The type of the message that is appended when the CLI's messages have ended."""
_NOISE = re.compile(r"\s*\[claude-code:")


class SandboxTransport:
    """Has the shape of the SDK's ``Transport``."""

    def __init__(
        self,
        open_process: Callable[[], Awaitable[Process]],
        on_message: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """``on_message`` is awaited for every message that is not of the control protocol."""
        self._open_process = open_process
        self._on_message = on_message
        self._process: Process | None = None
        self._stream: JsonLinesStream | None = None
        self._stderr: StderrTail | None = None
        self._stderr_task: asyncio.Task[None] | None = None
        self._stored: dict[bytes, asyncio.Event] = {}
        self.session_stored = False
        """The CLI's session file has a message of the user, so the session can be resumed."""
        self.failure: str | None = None
        """How the CLI ended, once it has."""

    # ------------------------------------------------------------------ the SDK's interface

    async def connect(self) -> None:
        process = self._process = await self._open_process()
        self._stream = JsonLinesStream(process, _is_message, LIMITS)
        self._stderr = StderrTail(process, _NOISE)
        self._stderr_task = asyncio.get_running_loop().create_task(self._stderr.read())

    def is_ready(self) -> bool:
        return self._process is not None and self.failure is None

    async def write(self, data: str) -> None:
        assert self._stream is not None
        if self.failure is not None:
            raise BrokenPipeError("The agent's program has ended.")
        await self._stream.write(data.encode("utf-8", "replace"))

    async def end_input(self) -> None:
        if self._process is not None and self.failure is None:
            await self._process.close_stdin()

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yields the control protocol's messages; all others go to ``on_message``."""
        assert self._stream is not None
        try:
            while (line := await self._stream.read_line()) is not None:
                if line.startswith(MIRROR):
                    self._note_stored(line)
                    continue
                message = await self._stream.decode(line)
                if message is None:
                    continue
                if message["type"] in CONTROL:
                    yield message
                else:
                    await self._on_message(message)
            self.failure = await self._exit_reason()
        except LineTooLong as error:
            self.failure = f"it wrote {error}"
        except TooMuchGarbage:
            self.failure = "it writes what is not its protocol"
        except SandboxLost as error:
            self.failure = f"its sandbox ended: {error.message}"
        await self._on_message({"type": EXITED})

    async def close(self) -> None:
        """Terminate the CLI and wait for its exit, at most :data:`EXIT_GRACE` before a kill."""
        if self._process is not None:
            await self._terminate(self._process)
        if self._stderr_task is not None:
            self._stderr_task.cancel()
            await asyncio.wait([self._stderr_task])

    # ------------------------------------------------------------------ for CliProcess

    @property
    def broken(self) -> bool:
        """Whether a write failed, so that nothing can be sent to this CLI any more."""
        return self._stream is not None and self._stream.broken

    @property
    def pid(self) -> int | None:
        """The CLI's process id inside the sandbox."""
        return None if self._process is None else self._process.pid

    async def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Signal the CLI. Tools that it started have sessions of their own and live on."""
        if self._process is not None:
            try:
                await self._process.kill(how)
            except SandboxLost:
                return

    @property
    def error_line(self) -> str:
        """The line of its stderr that a failure should quote, else what it wrote to stdout
        instead of messages; may be empty."""
        line = "" if self._stderr is None else self._stderr.relevant_line()
        return line or ("" if self._stream is None else self._stream.last_garbage)

    def has_printed(self, text: str) -> bool:
        """Whether ``text`` is in the end of its stderr or in its last line that was no message."""
        stderr = "" if self._stderr is None else self._stderr.text
        garbage = "" if self._stream is None else self._stream.last_garbage
        return text in stderr or text in garbage

    def stored(self, text: str) -> asyncio.Event:
        """An event that is set when a row which holds ``text`` is in the session file."""
        return self._stored.setdefault(text.encode(), asyncio.Event())

    def forget_stored(self) -> None:
        """Drop all events of :meth:`stored`."""
        self._stored.clear()

    def _note_stored(self, line: bytes) -> None:
        self.session_stored = self.session_stored or USER_ROW in line
        for text, event in self._stored.items():
            if text in line:
                event.set()

    async def _exit_reason(self) -> str:
        assert self._process is not None
        code = await self._process.wait()
        if code < 0:
            return f"it was killed (signal {-code})"
        return f"it ended with code {code}"

    async def _terminate(self, process: Process) -> None:
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


def _is_message(message: dict[str, Any]) -> bool:
    return isinstance(message.get("type"), str)
