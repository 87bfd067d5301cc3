"""One output of a cell that changes while a turn runs.

A Jupyter server drops what a kernel shows too fast, so updates are rare: at most
:data:`PER_SECOND` of them, and fewer where each is large. A thread of its own publishes, so that
the last words before a silence are seen at once; it ends with the ``with`` block.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from IPython.display import DisplayHandle, display

PER_SECOND = 20
BYTES_PER_SECOND = 400_000
"""Less than half of what a Jupyter server lets through (``iopub_data_rate_limit``)."""

Bundle = Mapping[str, Any]


class LiveOutput:
    """``render`` makes the bundle; it is called under ``lock``, which guards what it reads.

    ``live=False``: nothing is shown before the end.
    """

    def __init__(self, render: Callable[[], Bundle], *, live: bool = True) -> None:
        self.lock = threading.Lock()
        self.updates = 0
        self._render = render
        self._live = live
        self._news = threading.Condition()
        self._dirty = self._ending = False
        self._shown: Bundle | None = None
        self._handle: DisplayHandle | None = None
        self._thread: threading.Thread | None = None

    def changed(self) -> None:
        """There is something new to show."""
        with self._news:
            self._dirty = True
            self._news.notify()

    def __enter__(self) -> Self:
        if self._live:
            self._publish()
            context = contextvars.copy_context()  # where the outputs of this cell go
            self._thread = threading.Thread(
                target=context.run, args=(self._follow,), name="loopat-live", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._news:
            self._ending = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()
        self._publish()

    def _follow(self) -> None:
        pause = 0.0
        while True:
            with self._news:
                # The pause is over when its time is, or when the output ends.
                self._news.wait_for(lambda: self._ending, pause)
                self._news.wait_for(lambda: self._dirty or self._ending)
                if self._ending:
                    return
                self._dirty = False
            began = time.monotonic()
            size = self._publish()
            took = time.monotonic() - began
            pause = max(1 / PER_SECOND, size / BYTES_PER_SECOND, took)

    def _publish(self) -> int:
        """Show the present state, if it is another than the one that is seen. Its size."""
        with self.lock:
            bundle = dict(self._render())
        size = sum(len(text) for text in bundle.values() if isinstance(text, str))
        if bundle == self._shown:
            return size
        self._shown = bundle
        self.updates += 1
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        return size
