"""The way through the kernel, for pages that cannot reach the server themselves.

The browser half (``static/connection/kernel_transport.js``) sends calls as custom messages of the
widget; a relay carries them out with the client (:mod:`._desk`), in a thread of its own that exists
from the first call on, and answers. Nothing here depends on the kernel's main thread but that it
hands messages over, so a kernel with subshells answers even while a cell runs. ``close`` ends the
thread and every stream in it; a relay that was forgotten does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopat_jupyter.client import AsyncClient, ServerAddress

from ._rpc import Send, WidgetRpc


class KernelBridge:
    """One widget's calls to one loop. :meth:`take` and :meth:`close` may be called anywhere.

    ``send`` gives a message to the browser; it is called in the relay's thread.
    """

    def __init__(
        self,
        loop_id: str,
        address: ServerAddress,
        send: Send,
        *,
        connect: Callable[[ServerAddress], AsyncClient] = AsyncClient,
    ) -> None:
        self._loop_id = loop_id
        self._connect = lambda: connect(address)
        self._send = send
        self._lock = threading.Lock()
        self._closed = False
        self._thread: _BridgeThread | None = None

    def take(self, message: object, buffers: Sequence[bytes | memoryview] = ()) -> None:
        """Carry out a message of the browser; what is none is left alone."""
        with self._lock:
            if self._closed or not isinstance(message, Mapping):
                return
            if self._thread is None or not self._thread.is_alive:
                self._thread = _BridgeThread(self._loop_id, self._connect, self._send)
            self._thread.hand_over({**message, "buffers": [bytes(one) for one in buffers]})

    def close(self) -> None:
        """End everything; returns when the thread has ended."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()


class _BridgeThread:
    """An event loop in a thread, which owns the connections and every task."""

    def __init__(self, loop_id: str, connect: Callable[[], AsyncClient], send: Send) -> None:
        self._loop_id = loop_id
        self._connect = connect
        self._send = send
        self._inbox: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        self._events = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"loopat {loop_id}", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._events) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with self._connect() as client, asyncio.TaskGroup() as tasks:
            desk = WidgetRpc(client, self._loop_id, self._send, tasks)
            while (message := await self._inbox.get()) is not None:
                desk.handle(message)
            desk.close()

    def hand_over(self, message: Mapping[str, Any] | None) -> None:
        self._events.call_soon_threadsafe(self._inbox.put_nowait, message)

    def end(self) -> None:
        if self.is_alive:
            self.hand_over(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()
