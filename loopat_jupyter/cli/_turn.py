"""Printing one turn while it runs, and interrupting it on Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from loopat_jupyter.client import Event, LoopatError, TurnResult

from ._exit import ExitCode, print_error

if TYPE_CHECKING:
    from ._printers import Printer

STATUS_CODES = {
    "done": ExitCode.OK,
    "error": ExitCode.FAILED,
    "interrupted": ExitCode.INTERRUPTED,
}


def print_turn(events: Iterable[Event], printer: Printer, turn_id: str | None = None) -> TurnResult:
    """Print events up to the end of the stream, or with ``turn_id`` of that turn's events."""
    result = TurnResult(turn_id=turn_id)
    for event in events:
        if turn_id is not None and event.turn_id not in {turn_id, None}:
            continue
        result.add(event)
        printer.print_event(event)
        if event.terminal and turn_id is not None:
            break
    return result


@contextmanager
def interrupt_on_sigint(interrupt: Callable[[], None]) -> Iterator[None]:
    """Within the block the first Ctrl-C interrupts the turn, whose end the stream then shows.

    The second raises ``KeyboardInterrupt``, for a server that does not respond.
    """
    workers: list[threading.Thread] = []

    def work() -> None:
        try:
            interrupt()
        except LoopatError as error:
            print_error(f"could not interrupt the turn: {error.message}")

    def on_signal(number: int, frame: FrameType | None) -> None:
        if workers:
            raise KeyboardInterrupt
        workers.append(threading.Thread(target=work, name="loopat-interrupt"))
        workers[0].start()

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for worker in workers:
            worker.join()
