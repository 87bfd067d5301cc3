"""The supervisor's side of a file operation: a forked process that can be killed.

Standard library only; runs inside the sandbox.
"""

# ruff: noqa: TRY301

from __future__ import annotations

import json
import os

from loopat_jupyter.sandboxes.inside import file_ops, protocol
from loopat_jupyter.sandboxes.inside.commands import READ_SIZE, apply_limits, kill_group, submit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any

    from loopat_jupyter.sandboxes.inside.types import Host
else:
    import _signal as signal  # the module around it costs milliseconds


class FileProcess:
    """One file operation. Its answer is relayed as it comes; its end is the end."""

    def __init__(self, host: Host, request: int, ask: dict[str, Any]) -> None:
        self._host = host
        self._request = request
        self._killed = ""
        self._pipe, writer = os.pipe()
        try:
            self._pid = os.fork()
            if self._pid == 0:
                self._work(writer, ask)
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(writer)
        self._timer = host.after(host.config["file_timeout"], self._expired)
        host.watch(self._pipe, self._readable)
        host.expect(self._pid, self._exited)

    def _work(self, writer: int, ask: dict[str, Any]) -> None:
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            os.dup2(writer, 0)
            config = self._host.config
            submit(config)
            os.closerange(1, 4096)
            apply_limits(config)
            os.chdir(config["workdir"])
            answer = perform(ask["file_op"], ask["args"], config["workdir"], config["home"])
            with os.fdopen(0, "wb", closefd=False) as out:
                out.write(json.dumps(answer).encode())
        finally:
            os._exit(0)

    def kill(self, number: int) -> None:
        self._killed = "The file operation was interrupted."
        kill_group(self._pid, number)

    def note(self, pid: int, text: str) -> None:
        if pid == self._pid:
            self._killed = text

    def _expired(self) -> None:
        self._killed = "The file operation took too long."
        kill_group(self._pid, signal.SIGKILL)

    def _readable(self) -> None:
        data = os.read(self._pipe, READ_SIZE)
        for piece in protocol.chunks(data):
            self._host.send(protocol.OUT, self._request, piece)
        if not data:
            self._host.unwatch(self._pipe)

    def _exited(self, _code: int) -> None:
        self._host.cancel(self._timer)
        self._host.unwatch(self._pipe)
        while data := os.read(self._pipe, READ_SIZE):
            for piece in protocol.chunks(data):
                self._host.send(protocol.OUT, self._request, piece)
        os.close(self._pipe)
        end = {"error": self._killed} if self._killed else {}
        self._host.send(protocol.END, self._request, json.dumps(end).encode())
        self._host.finished(self._request)


def perform(op: str, args: dict[str, Any], workdir: str, home: str) -> dict[str, Any]:
    """Run one operation; the answer, or ``{"error": line}``."""
    try:
        operations = file_ops.OPERATIONS
        if op not in operations:  # a search: its module costs more to import than the others
            from loopat_jupyter.sandboxes.inside import file_search

            operations = file_search.OPERATIONS
        if op not in operations:
            raise file_ops.Refused(f"There is no file operation {op}.")
        return operations[op](file_ops.Place(workdir, home), **args)
    except file_ops.Refused as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{args.get('path') or workdir}: {error.strerror or error}"}
    except (TypeError, ValueError) as error:
        return {"error": str(error).splitlines()[0] if str(error) else "Bad arguments."}
    except MemoryError:
        return {"error": "The operation needs more memory than the sandbox has."}
