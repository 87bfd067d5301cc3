"""Ctrl-C while a turn runs in the server.

The signal does not cut the reading: it asks the server to interrupt the turn, the stream then
shows the turn's end, and only after that ``KeyboardInterrupt`` is raised. So the output is whole.
A turn that has not begun is behind somebody else's, which is not ours to interrupt: then, and
when the person presses a second time, the reading stops at once.
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
    """Inside, the first Ctrl-C calls ``interrupt`` if ``begun()``; leaving raises for it.

    In a thread that gets no signals it does nothing.
    """

    def __init__(self, interrupt: Callable[[], None], begun: Callable[[], bool]) -> None:
        self.failure: LoopatError | None = None
        """Why the server could not be asked."""
        self._interrupt = interrupt
        self._begun = begun
        self._worker: threading.Thread | None = None
        self._prompting = False
        self._before: Any = None
        self._signals = threading.current_thread() is threading.main_thread()

    @contextmanager
    def prompting(self) -> Iterator[None]:
        """Inside, Ctrl-C raises as well: the person is being waited for at the keyboard."""
        self._prompting = True
        try:
            yield
        finally:
            self._prompting = False

    def __enter__(self) -> Self:
        if self._signals:
            self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._signals:
            signal.signal(signal.SIGINT, self._before)
        if self._worker is not None:
            self._worker.join()
            if kind is None:
                raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._worker is not None or not self._begun():
            raise KeyboardInterrupt
        self._worker = threading.Thread(target=self._work, name="loopat-interrupt")
        self._worker.start()
        if self._prompting:
            raise KeyboardInterrupt

    def _work(self) -> None:
        try:
            self._interrupt()
        except LoopatError as error:
            self.failure = error
            signal.raise_signal(signal.SIGINT)  # nothing will end the stream now: stop reading
