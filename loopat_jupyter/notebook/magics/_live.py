"""One output of a cell that changes while a turn runs.

A Jupyter server drops the outputs of a kernel that publishes too fast, so updates are limited to
:data:`PER_SECOND`, and to fewer where each is large. A thread of its own publishes, so that the
last text before a pause is seen at once; it ends with the ``with`` block.
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
"""Less than half of a Jupyter server's default ``iopub_data_rate_limit``."""

Bundle = Mapping[str, Any]


class LiveOutput:
    """``render`` makes the MIME bundle; it is called with ``lock`` held, which guards its data.

    ``live=False``: nothing is published before the end.
    """

    def __init__(self, render: Callable[[], Bundle], *, live: bool = True) -> None:
        self.lock = threading.Lock()
        self.updates = 0
        self._render = render
        self._live = live
        self._changed = threading.Condition()
        self._dirty = self._ending = False
        self._shown: Bundle | None = None
        self._handle: DisplayHandle | None = None
        self._thread: threading.Thread | None = None

    def changed(self) -> None:
        """Publish again: what ``render`` reads has changed."""
        with self._changed:
            self._dirty = True
            self._changed.notify()

    def __enter__(self) -> Self:
        if self._live:
            self._publish()
            context = contextvars.copy_context()  # where the outputs of this cell go
            self._thread = threading.Thread(
                target=context.run, args=(self._publish_changes,), name="loopat-live", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self._publish()

    def _publish_changes(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                # Waits for the whole pause, unless the output ends.
                self._changed.wait_for(lambda: self._ending, pause)
                self._changed.wait_for(lambda: self._dirty or self._ending)
                if self._ending:
                    return
                self._dirty = False
            began = time.monotonic()
            size = self._publish()
            duration = time.monotonic() - began
            pause = max(1 / PER_SECOND, size / BYTES_PER_SECOND, duration)

    def _publish(self) -> int:
        """Publish what ``render`` makes, unless it is unchanged; returns its size."""
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
