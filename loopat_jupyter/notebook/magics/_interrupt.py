"""Ctrl-C while a turn runs in the server.

The signal does not end the reading: it asks the server to interrupt the turn, the stream then has
the turn's end, and only after that ``KeyboardInterrupt`` is raised. So the output is complete.
A turn that has not started is queued behind another, which this cell must not interrupt: then, and
when Ctrl-C is pressed a second time, the reading stops at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from loopat_jupyter.client import LoopatError


class Interrupting:
    """Within the block the first Ctrl-C calls ``interrupt`` if ``is_started()``; the block's end
    raises ``KeyboardInterrupt`` for it.

    Only the main thread gets signals; in another one it does nothing.
    """

    def __init__(self, interrupt: Callable[[], None], is_started: Callable[[], bool]) -> None:
        self.failure: LoopatError | None = None
        """Why the request to interrupt failed."""
        self._interrupt = interrupt
        self._is_started = is_started
        self._worker: threading.Thread | None = None
        self._prompting = False
        self._previous_handler: Any = None
        self._signals = threading.current_thread() is threading.main_thread()

    @contextmanager
    def prompting(self) -> Iterator[None]:
        """Within the block Ctrl-C also raises: ``input`` is waiting for the keyboard."""
        self._prompting = True
        try:
            yield
        finally:
            self._prompting = False

    def __enter__(self) -> Self:
        if self._signals:
            self._previous_handler = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._signals:
            signal.signal(signal.SIGINT, self._previous_handler)
        if self._worker is not None:
            self._worker.join()
            if kind is None:
                raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._worker is not None or not self._is_started():
            raise KeyboardInterrupt
        self._worker = threading.Thread(target=self._request_interrupt, name="loopat-interrupt")
        self._worker.start()
        if self._prompting:
            raise KeyboardInterrupt

    def _request_interrupt(self) -> None:
        try:
            self._interrupt()
        except LoopatError as error:
            self.failure = error
            signal.raise_signal(signal.SIGINT)  # nothing else ends the stream now: stop reading
