"""A stream of events that reconnects by itself, for asyncio callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

import httpx
from httpx_sse import EventSource, ServerSentEvent

from .._errors import LoopatError
from .._events import Event, RequiresChoice
from .._resume import ResumingStream
from .transport import AsyncTransport


class AsyncEventStream(AsyncIterator[Event]):
    """Iterate it for events. Opened when it is handed out: by then the server has the message.

    A cancellation breaks the connection only: iterating again goes on exactly where it was.
    Closing it, or leaving its ``async with`` block, never stops a turn;
    :meth:`AsyncLoop.interrupt` does.
    """

    def __init__(
        self,
        carrier: AsyncTransport,
        state: ResumingStream,
        decide: Callable[[RequiresChoice], Awaitable[None]] | None = None,
    ) -> None:
        self._carrier = carrier
        self._state = state
        self._decide = decide
        self._due: RequiresChoice | None = None
        self._response: httpx.Response | None = None
        self._lines: AsyncGenerator[ServerSentEvent, None] | None = None

    @property
    def turn_id(self) -> str | None:
        """The turn's id, as soon as a stored event of it was seen."""
        return self._state.turn_id

    @property
    def cursor(self) -> int | None:
        """The newest sequence number seen: ``loop.events(after_seq=…)`` goes on from it."""
        return self._state.cursor

    async def __anext__(self) -> Event:
        await self._settle()
        while not self._state.complete:
            event = await self._read()
            if event is not None:
                self._due = event if isinstance(event, RequiresChoice) else None
                return event
        await self.aclose()
        raise StopAsyncIteration

    async def _settle(self) -> None:
        """Let the policy speak about the choice that was handed out last."""
        request, self._due = self._due, None
        if request is not None and self._decide is not None:
            await self._decide(request)

    async def _read(self) -> Event | None:
        """One event, or ``None`` when there was nothing to show or the connection ended."""
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
        return self._state.accept(sse)

    async def _reconnect_after(self, error: httpx.TransportError | None) -> None:
        await self._disconnect()
        if self._state.finished:
            self._state.complete = True
        else:
            await asyncio.sleep(self._state.lost(error))

    async def connect(self) -> None:
        """Open it, with as many attempts as the retry policy has."""
        while self._response is None:
            try:
                self._response = await self._carrier.open(self._state.next_call())
            except httpx.TransportError as error:
                delay = self._state.lost(error)
            except LoopatError as error:
                delay = self._state.refused(error)
            else:
                self._state.opened()
                self._lines = EventSource(self._response).aiter_sse()
                return
            await asyncio.sleep(delay)

    async def _disconnect(self) -> None:
        response, self._response = self._response, None
        lines, self._lines = self._lines, None
        if lines is not None:
            await lines.aclose()
        if response is not None:
            await response.aclose()

    async def aclose(self) -> None:
        """Stop reading. The turn goes on."""
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
