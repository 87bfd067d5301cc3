"""A bridge through the kernel, for pages that cannot reach the server themselves.

The browser half (``static/connection/kernel_transport.js``) sends calls as custom messages of the
widget; a bridge carries them out with the client (:mod:`._rpc`), in a thread of its own that exists
from the first call on, and responds. It depends on the kernel's main thread only to hand messages
over, so a kernel with subshells responds even while a cell runs. ``close`` ends the thread and all
streams in it; a bridge that nobody closed does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loopat_jupyter.client import AsyncClient, ServerAddress

from ._rpc import Send, WidgetRpc


class KernelBridge:
    """One widget's calls to one loop. :meth:`handle_message` and :meth:`close` are thread-safe.

    ``send`` sends a message to the browser; it is called in the bridge's thread.
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

    def handle_message(self, message: object, buffers: Sequence[bytes | memoryview] = ()) -> None:
        """Carry out a message of the browser; anything malformed is ignored."""
        with self._lock:
            if self._closed or not isinstance(message, Mapping):
                return
            if self._thread is None or not self._thread.is_alive:
                self._thread = _BridgeThread(self._loop_id, self._connect, self._send)
            self._thread.enqueue({**message, "buffers": [bytes(one) for one in buffers]})

    def close(self) -> None:
        """End the calls and streams, and wait for the thread."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()


class _BridgeThread:
    """An event loop in a thread, which owns the connections and every task."""

    def __init__(self, loop_id: str, connect: Callable[[], AsyncClient], send: Send) -> None:
        self._loop_id = loop_id
        self._connect = connect
        self._send = send
        self._inbox: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        self._event_loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"loopat {loop_id}", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with self._connect() as client, asyncio.TaskGroup() as tasks:
            rpc = WidgetRpc(client, self._loop_id, self._send, tasks)
            while (message := await self._inbox.get()) is not None:
                rpc.handle(message)
            rpc.close()

    def enqueue(self, message: Mapping[str, Any] | None) -> None:
        self._event_loop.call_soon_threadsafe(self._inbox.put_nowait, message)

    def close(self) -> None:
        if self.is_alive:
            self.enqueue(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()
