"""A spawned process whose standard streams are carried over the control channel.

Flow control is by a window for each stream (:data:`.protocol.WINDOW`): output is not read while
the server has a window of it that was not taken, and input is acknowledged when it was written to
the process. So neither side holds more than a window, and a process that writes faster than it is
read has to wait.
"""

from __future__ import annotations

import os
import termios

from loopat_jupyter.sandboxes.inside import protocol
from loopat_jupyter.sandboxes.inside.commands import kill_group, start_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from loopat_jupyter.sandboxes.inside.types import JobContext


class OutputStream:
    """The stdout, the stderr or the terminal of a process."""

    def __init__(self, job: SpawnJob, fd: int, kind: bytes, end: bytes) -> None:
        self._job = job
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
            self._job.context.watch(self.fd, self._on_readable)

    def _pause(self) -> None:
        if self._watched:
            self._watched = False
            self._job.context.unwatch(self.fd)

    def add_credit(self, count: int) -> None:
        self._window += count
        self._watch()

    def _on_readable(self) -> None:
        try:
            data = os.read(self.fd, min(self._window, protocol.PAYLOAD_MAX))
        except BlockingIOError:
            return
        except OSError:  # EIO: no process has the terminal open any more
            data = b""
        if not data:
            self._pause()
            self.open = False
            self._job.send_frame(self._end)
            self._job.on_output_end(self.fd)
            return
        self._window -= len(data)
        self._job.send_frame(self._kind, data)
        if self._window <= 0:
            self._pause()


class SpawnJob:
    """One spawned process. ``END`` is sent when it has exited and its output has ended."""

    def __init__(self, context: JobContext, request_id: int, request: dict[str, Any]) -> None:
        self.context = context
        self._request_id = request_id
        self._exit_code: int | None = None
        self._input = bytearray()
        self._stdin_ended = False
        self._terminal: bool = request["pty"] is not None
        if self._terminal:
            parent_ends, child_ends = self._open_terminal(*request["pty"])
        else:
            parent_ends, child_ends = self._open_pipes()
        try:
            self._pid = start_process(
                context.config,
                request["argv"],
                streams=(child_ends[0], child_ends[len(child_ends) // 2], child_ends[-1]),
                cwd=request["cwd"],
                env=request["env"],
                terminal=self._terminal,
            )
        except OSError:
            for fd in set(parent_ends):
                os.close(fd)
            raise
        finally:
            for fd in child_ends:
                os.close(fd)
        context.on_exit(self._pid, self._on_exit)
        self.send_frame(protocol.STARTED, self._pid.to_bytes(4, "big"))
        self._stdin = parent_ends[0]
        os.set_blocking(self._stdin, False)
        self._outputs = [OutputStream(self, parent_ends[1], protocol.OUT, protocol.OUT_END)]
        if not self._terminal:
            self._outputs.append(OutputStream(self, parent_ends[2], protocol.ERR, protocol.ERR_END))

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

    def send_frame(self, kind: bytes, payload: bytes = b"") -> None:
        self.context.send_frame(kind, self._request_id, payload)

    # ------------------------------------------------------------------ from the server

    def kill(self, number: int) -> None:
        if self._exit_code is None or any(output.open for output in self._outputs):
            kill_group(self._pid, number)

    def report_kill(self, pid: int, text: str) -> None:
        """Does nothing: the streams carry only what the process itself writes."""

    def receive_frame(self, kind: bytes, payload: bytes) -> None:
        if kind == protocol.STDIN:
            self._input += payload
            self._write_stdin()
        elif kind == protocol.STDIN_END:
            self._stdin_ended = True
            if self._terminal:
                self._input += b"\x04"
            self._write_stdin()
        elif kind == protocol.CREDIT:
            index = payload[0]
            if index < len(self._outputs):
                self._outputs[index].add_credit(int.from_bytes(payload[1:], "big"))
        elif kind == protocol.RESIZE and self._terminal and self._stdin >= 0:
            size = (int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:], "big"))
            termios.tcsetwinsize(self._stdin, size)

    def _write_stdin(self) -> None:
        """Write as much input as the pipe takes now, and the rest when it is writable again."""
        if self._stdin < 0:
            return
        try:
            count = os.write(self._stdin, self._input) if self._input else 0
        except BlockingIOError:
            count = 0
        except OSError:
            self._close_stdin()
            return
        del self._input[:count]
        if count:
            self.send_frame(protocol.STDIN_WRITTEN, count.to_bytes(4, "big"))
        self.context.unwatch(self._stdin)
        if self._input:
            self.context.watch(self._stdin, self._write_stdin, write=True)
        elif self._stdin_ended and not self._terminal:
            self._close_stdin()

    def _close_stdin(self) -> None:
        self._input.clear()
        self.context.unwatch(self._stdin)
        os.close(self._stdin)
        self._stdin = -1
        self.send_frame(protocol.STDIN_WRITTEN, protocol.STDIN_CLOSED.to_bytes(4, "big"))

    # ------------------------------------------------------------------ ends

    def on_output_end(self, fd: int) -> None:
        os.close(fd)
        self._maybe_finish()

    def _on_exit(self, code: int) -> None:
        self._exit_code = code
        self.send_frame(protocol.EXIT, code.to_bytes(4, "big", signed=True))
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        if self._exit_code is None or any(output.open for output in self._outputs):
            return
        if self._stdin >= 0:
            self._close_stdin()
        self.send_frame(protocol.END, b"{}")
        self.context.forget_job(self._request_id)
