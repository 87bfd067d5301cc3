"""A spawned process whose streams flow through the channel, inside: standard library only.

Each direction has a window (:data:`frames.WINDOW`): output stops being read when the server has
not taken that much of it, and input is acknowledged when the process has taken it. So neither
side ever holds more than a window, and a process that floods is simply made to wait.
"""

from __future__ import annotations

import os
import termios

from loopat_jupyter.sandboxes.inside import protocol
from loopat_jupyter.sandboxes.inside.commands import kill_group, start_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loopat_jupyter.sandboxes.inside.types import Host


class Output:
    """One stream out of a process."""

    def __init__(self, stream: Stream, fd: int, kind: bytes, end: bytes) -> None:
        self._stream = stream
        self._kind = kind
        self._end = end
        self._window = protocol.WINDOW
        self._watched = False
        self.fd = fd
        self.open = True
        os.set_blocking(fd, False)
        self._watch()

    def _watch(self) -> None:
        if self.open and not self._watched and self._window > 0:
            self._watched = True
            self._stream.host.watch(self.fd, self._readable)

    def _pause(self) -> None:
        if self._watched:
            self._watched = False
            self._stream.host.unwatch(self.fd)

    def credit(self, count: int) -> None:
        self._window += count
        self._watch()

    def _readable(self) -> None:
        try:
            data = os.read(self.fd, min(self._window, protocol.PAYLOAD_MAX))
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process left the terminal
            data = b""
        if not data:
            self._pause()
            self.open = False
            self._stream.send(self._end)
            self._stream.output_ended(self.fd)
            return
        self._window -= len(data)
        self._stream.send(self._kind, data)
        if self._window <= 0:
            self._pause()


class Stream:
    """One spawned process. Its last frame follows its exit and the end of its output."""

    def __init__(self, host: Host, request: int, ask: dict[str, Any]) -> None:
        self.host = host
        self._request = request
        self._code: int | None = None
        self._input = bytearray()
        self._closing = False
        self._terminal: bool = ask["pty"] is not None
        if self._terminal:
            ours, theirs = self._open_terminal(*ask["pty"])
        else:
            ours, theirs = self._open_pipes()
        try:
            self._pid = start_process(
                host.config,
                ask["argv"],
                streams=(theirs[0], theirs[len(theirs) // 2], theirs[-1]),
                cwd=ask["cwd"],
                env=ask["env"],
                terminal=self._terminal,
            )
        except OSError:
            for fd in set(ours):
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        host.expect(self._pid, self._exited)
        self.send(protocol.STARTED, self._pid.to_bytes(4, "big"))
        self._stdin = ours[0]
        os.set_blocking(self._stdin, False)
        self._outputs = [Output(self, ours[1], protocol.OUT, protocol.OUT_END)]
        if not self._terminal:
            self._outputs.append(Output(self, ours[2], protocol.ERR, protocol.ERR_END))

    @staticmethod
    def _open_pipes() -> tuple[list[int], list[int]]:
        pipes = [os.pipe() for _ in range(3)]
        (in_read, in_write), (out_read, out_write), (err_read, err_write) = pipes
        return [in_write, out_read, err_read], [in_read, out_write, err_write]

    @staticmethod
    def _open_terminal(rows: int, columns: int) -> tuple[list[int], list[int]]:
        main, side = os.openpty()
        termios.tcsetwinsize(main, (rows, columns))
        return [os.dup(main), main], [side]

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        self.host.send(kind, self._request, payload)

    # ------------------------------------------------------------------ from the server

    def kill(self, number: int) -> None:
        if self._code is None or any(output.open for output in self._outputs):
            kill_group(self._pid, number)

    def note(self, pid: int, text: str) -> None:
        """Nothing to say it in: the streams are the process's own."""

    def receive(self, kind: bytes, payload: bytes) -> None:
        if kind == protocol.STDIN:
            self._input += payload
            self._feed()
        elif kind == protocol.STDIN_END:
            self._closing = True
            if self._terminal:
                self._input += b"\x04"
            self._feed()
        elif kind == protocol.CREDIT:
            index = payload[0]
            if index < len(self._outputs):
                self._outputs[index].credit(int.from_bytes(payload[1:], "big"))
        elif kind == protocol.RESIZE and self._terminal and self._stdin >= 0:
            size = (int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:], "big"))
            termios.tcsetwinsize(self._stdin, size)

    def _feed(self) -> None:
        """Write what the process takes now; go on when it takes more."""
        if self._stdin < 0:
            return
        try:
            count = os.write(self._stdin, self._input) if self._input else 0
        except BlockingIOError:
            count = 0
        except OSError:
            self._end_input()
            return
        del self._input[:count]
        if count:
            self.send(protocol.TAKEN, count.to_bytes(4, "big"))
        self.host.unwatch(self._stdin)
        if self._input:
            self.host.watch(self._stdin, self._feed, write=True)
        elif self._closing and not self._terminal:
            self._end_input()

    def _end_input(self) -> None:
        self._input.clear()
        self.host.unwatch(self._stdin)
        os.close(self._stdin)
        self._stdin = -1
        self.send(protocol.TAKEN, protocol.STDIN_GONE.to_bytes(4, "big"))

    # ------------------------------------------------------------------ ends

    def output_ended(self, fd: int) -> None:
        os.close(fd)
        self._maybe_finish()

    def _exited(self, code: int) -> None:
        self._code = code
        self.send(protocol.EXIT, code.to_bytes(4, "big", signed=True))
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        if self._code is None or any(output.open for output in self._outputs):
            return
        if self._stdin >= 0:
            self._end_input()
        self.send(protocol.END, b"{}")
        self.host.finished(self._request)
