"""An event stream that reconnects by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

import httpx

from .._errors import LoopatError
from .._events import Event, RequiresChoice
from .._resume import ResumingStream
from .concurrency import SseIterator, close_sse, iterate_sse, sleep
from .transport import AsyncTransport


class AsyncEventStream(AsyncIterator[Event]):
    """Iterate it for events. It is connected when a loop returns it.

    An interruption of the reader (a cancelled task, Ctrl-C, an exception in the loop's body) only
    drops the connection: iterating again continues with the next event. Closing the stream, or
    leaving its ``async with`` block, does not stop the turn; :meth:`AsyncLoop.interrupt` does.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        state: ResumingStream,
        decide: Callable[[RequiresChoice], Awaitable[None]] | None = None,
    ) -> None:
        self._transport = transport
        self._state = state
        self._decide = decide
        self._undecided: RequiresChoice | None = None
        self._response: httpx.Response | None = None
        self._lines: SseIterator | None = None

    @property
    def turn_id(self) -> str | None:
        """The turn's id, once a stored event of it was received."""
        return self._state.turn_id

    @property
    def cursor(self) -> int | None:
        """The newest sequence number received; ``loop.events(after_seq=…)`` continues there."""
        return self._state.cursor

    async def __anext__(self) -> Event:
        await self._apply_policy()
        while not self._state.complete:
            event = await self._read()
            if event is not None:
                self._undecided = event if isinstance(event, RequiresChoice) else None
                return event
        await self.aclose()
        raise StopAsyncIteration

    async def _apply_policy(self) -> None:
        """Let the policy decide the choice that was handed out last, if the caller did not."""
        request, self._undecided = self._undecided, None
        if request is not None and self._decide is not None:
            await self._decide(request)

    async def _read(self) -> Event | None:
        """One event; ``None`` where nothing is to be shown or the connection ended."""
        if self._lines is None:
            await self.connect()
            return None
        try:
            sse = await anext(self._lines, None)
        except httpx.TransportError as error:
            await self._reconnect_after(error)
            return None
        except BaseException:
            await self._disconnect()
            raise
        if sse is None:
            await self._reconnect_after(None)
            return None
        return self._state.handle_event(sse)

    async def _reconnect_after(self, error: httpx.TransportError | None) -> None:
        await self._disconnect()
        if self._state.finished:
            self._state.complete = True
        else:
            await sleep(self._state.on_disconnected(error))

    async def connect(self) -> None:
        """Open the connection, with as many attempts as the retry policy allows."""
        while self._response is None:
            try:
                self._response = await self._transport.open_stream(self._state.next_request())
            except httpx.TransportError as error:
                delay = self._state.on_disconnected(error)
            except LoopatError as error:
                delay = self._state.on_api_error(error)
            else:
                self._state.on_connected()
                self._lines = iterate_sse(self._response)
                return
            await sleep(delay)

    async def _disconnect(self) -> None:
        response, self._response = self._response, None
        lines, self._lines = self._lines, None
        if lines is not None:
            await close_sse(lines)
        if response is not None:
            await response.aclose()

    async def aclose(self) -> None:
        """Stop reading. The turn continues in the server."""
        self._state.complete = True
        await self._disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
