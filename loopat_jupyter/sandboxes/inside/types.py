"""What the parts of the supervisor know of each other; for the type checker only.

``typing`` alone costs more to import than the rest of the supervisor together, so no module that
runs inside imports this one, or it, at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class JobContext(Protocol):
    """What a job needs of the supervisor."""

    config: dict[str, Any]

    def watch(self, fd: int, ready: Callable[[], None], *, write: bool = False) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def on_exit(self, pid: int, exited: Callable[[int], None]) -> None: ...
    def call_later(self, seconds: float, call: Callable[[], None]) -> int: ...
    def cancel_timer(self, timer: int) -> None: ...
    def send_reply(self, request: int, data: bytes, end: str) -> None: ...
    def send_frame(self, kind: bytes, request: int, payload: bytes = b"") -> None: ...
    def forget_job(self, request: int) -> None: ...


class Timers(Protocol):
    """What the memory watch needs of it."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> int: ...


class Job(Protocol):
    """Something the server asked for that has not ended."""

    def kill(self, number: int) -> None: ...
    def report_kill(self, pid: int, text: str) -> None: ...
