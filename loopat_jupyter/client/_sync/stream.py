"""A stream of events that reconnects by itself, for synchronous callers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import httpx
from httpx_sse import EventSource, ServerSentEvent

from .._errors import LoopatError
from .._events import Event, RequiresChoice
from .._resume import ResumingStream
from .transport import Transport


class EventStream(Iterator[Event]):
    """Iterate it for events. Opened when it is made: by then the server has the message.

    An interruption (Ctrl-C, an exception in the caller) breaks the connection only: iterating
    again goes on exactly where it was. Closing it, or leaving its ``with`` block, never stops
    a turn; :meth:`Loop.interrupt` does.
    """

    def __init__(
        self,
        carrier: Transport,
        state: ResumingStream,
        decide: Callable[[RequiresChoice], None] | None = None,
    ) -> None:
        self._carrier = carrier
        self._state = state
        self._decide = decide
        self._due: RequiresChoice | None = None
        self._response: httpx.Response | None = None
        self._lines: Iterator[ServerSentEvent] = iter(())
        self._connect()

    @property
    def turn_id(self) -> str | None:
        """The turn's id, as soon as a stored event of it was seen."""
        return self._state.turn_id

    @property
    def cursor(self) -> int | None:
        """The newest sequence number seen: ``loop.events(after_seq=…)`` goes on from it."""
        return self._state.cursor

    def __next__(self) -> Event:
        self._settle()
        while not self._state.complete:
            event = self._read()
            if event is not None:
                self._due = event if isinstance(event, RequiresChoice) else None
                return event
        self.close()
        raise StopIteration

    def _settle(self) -> None:
        """Let the policy speak about the choice that was handed out last."""
        request, self._due = self._due, None
        if request is not None and self._decide is not None:
            self._decide(request)

    def _read(self) -> Event | None:
        """One event, or ``None`` when there was nothing to show or the connection ended."""
        if self._response is None:
            self._connect()
        try:
            sse = next(self._lines, None)
        except httpx.TransportError as error:
            self._reconnect_after(error)
            return None
        except BaseException:
            self._disconnect()
            raise
        if sse is None:
            self._reconnect_after(None)
            return None
        return self._state.accept(sse)

    def _reconnect_after(self, error: httpx.TransportError | None) -> None:
        self._disconnect()
        if self._state.finished:
            self._state.complete = True
        else:
            time.sleep(self._state.lost(error))

    def _connect(self) -> None:
        while self._response is None:
            try:
                self._response = self._carrier.open(self._state.next_call())
            except httpx.TransportError as error:
                delay = self._state.lost(error)
            except LoopatError as error:
                delay = self._state.refused(error)
            else:
                self._state.opened()
                self._lines = EventSource(self._response).iter_sse()
                return
            time.sleep(delay)

    def _disconnect(self) -> None:
        response, self._response = self._response, None
        self._lines = iter(())
        if response is not None:
            response.close()

    def close(self) -> None:
        """Stop reading. The turn goes on."""
        self._state.complete = True
        self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
