"""Protocols between the modules of the supervisor, for the type checker alone.

They are not part of the bundle: no module that runs inside may import ``typing`` at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class JobContext(Protocol):
    """The supervisor, as a job sees it."""

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
    """The supervisor, as the memory watch sees it."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> int: ...


class Job(Protocol):
    """A request of the server's that has not ended."""

    def kill(self, number: int) -> None: ...
    def report_kill(self, pid: int, text: str) -> None: ...
