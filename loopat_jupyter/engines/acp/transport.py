"""The ACP SDK's transport over an agent's process: JSON-RPC messages, one a line.

Session updates leave the stream here, before the SDK would start a task for each: so they keep
their order, and an agent that floods waits until they are taken. The SDK sees only responses,
permission requests and elicitations. A request for what is not offered is refused here; requests
that are not answered yet are bounded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ...loops.errors import SandboxLost
from ...loops.ports.sandbox import Process
from ..agents.jsonlines import JsonLinesLimits, JsonLinesStream, LineTooLong, TooMuchGarbage

METHOD_NOT_FOUND = -32601
"""JSON-RPC's code of a method that does not exist."""
OFFERED = frozenset({"session/request_permission", "elicitation/create"})
"""The methods that an agent may call."""

OnUpdate = Callable[[Mapping[str, Any]], Awaitable[object]]


class AcpTransport:
    """Has the shape of the SDK's transport. ``failure``: why nothing is received any more, without
    the agent's name; ``None`` until then, and after an ordinary end of the stream."""

    def __init__(
        self, process: Process, on_update: OnUpdate, limits: JsonLinesLimits, max_requests: int
    ) -> None:
        """``on_update`` is awaited for each session update, before the next line is read.
        ``max_requests``: how many requests of the agent may wait for their response at once."""
        self._stream = JsonLinesStream(process, _is_message, limits)
        self._on_update = on_update
        self._max_requests = max_requests
        self._open_requests = 0
        self.ended = asyncio.Event()
        self.failure: str | None = None

    @property
    def usable(self) -> bool:
        """Whether messages can still be exchanged."""
        return not (self.ended.is_set() or self._stream.broken)

    @property
    def last_garbage(self) -> str:
        """The last line that was no message; empty if there was none."""
        return self._stream.last_garbage

    # ------------------------------------------------------------------ the SDK's interface

    async def send(self, message: dict[str, Any]) -> None:
        """Write a message.

        Raises:
            ConnectionError: a request or notification could not be written. That a response could
                not be is no error: the process that asked has ended.
        """
        is_response = "method" not in message
        if is_response:
            self._open_requests -= 1
        try:
            await self._stream.write(json.dumps(message, default=str).encode() + b"\n")
        except (OSError, SandboxLost) as error:
            if not is_response:
                raise ConnectionError(str(error)) from error

    async def receive(self) -> dict[str, Any] | None:
        """The next message for the SDK; ``None`` when there are no more."""
        try:
            while self.failure is None and (line := await self._stream.read_line()) is not None:
                message = await self._stream.decode(line)
                if message is not None and await self._is_for_sdk(message):
                    return message
        except LineTooLong as error:
            self.failure = f"sent {error} and was ended."
        except TooMuchGarbage:
            self.failure = (
                "does not speak the Agent Client Protocol and was ended. It said: "
                f"{self.last_garbage}"
            )
        except SandboxLost as error:
            self.failure = f"has lost its sandbox: {error.message}"
        self.ended.set()
        return None

    async def close(self) -> None:
        """Part of the interface. The process is ended by :class:`.process.AgentProcess`."""

    async def _is_for_sdk(self, message: dict[str, Any]) -> bool:
        method = message.get("method")
        if method is None:
            return True
        if "id" not in message:
            if method == "session/update" and isinstance(message.get("params"), dict):
                await self._on_update(message["params"])
            return False
        self._open_requests += 1
        if self._open_requests > self._max_requests:
            self.failure = f"asked more than {self._max_requests} things at once and was ended."
            return False
        if method in OFFERED:
            return True
        problem = {"code": METHOD_NOT_FOUND, "message": "This client does not offer that."}
        await self.send({"jsonrpc": "2.0", "id": message["id"], "error": problem})
        return False


def _is_message(message: dict[str, Any]) -> bool:
    """Whether it is well-formed enough for the SDK."""
    return (
        isinstance(message.get("id"), int | str | None)
        and isinstance(message.get("method"), str | None)
        and ("method" in message or "id" in message)
        and isinstance(message.get("error"), dict | None)
    )
