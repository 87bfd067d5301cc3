"""Runs one file operation in a forked process with the loop's limits, so that it can be killed
when it hangs or takes too much memory."""

# ruff: noqa: TRY301

from __future__ import annotations

import json
import os

from loopat_jupyter.sandboxes.inside import file_ops, protocol
from loopat_jupyter.sandboxes.inside.commands import (
    READ_SIZE,
    apply_agent_rules,
    apply_limits,
    kill_group,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any

    from loopat_jupyter.sandboxes.inside.types import JobContext
else:
    import _signal as signal  # the module around it costs milliseconds


class FileProcess:
    """One file operation. What the process writes is sent on as it comes; when the process ends
    the reply ends."""

    def __init__(self, context: JobContext, request_id: int, request: dict[str, Any]) -> None:
        self._context = context
        self._request_id = request_id
        self._kill_reason = ""
        self._pipe, writer = os.pipe()
        try:
            self._pid = os.fork()
            if self._pid == 0:
                self._run_child(writer, request)
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(writer)
        self._timer = context.call_later(context.config["file_timeout"], self._on_timeout)
        context.watch(self._pipe, self._on_readable)
        context.on_exit(self._pid, self._on_exit)

    def _run_child(self, writer: int, request: dict[str, Any]) -> None:
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            os.dup2(writer, 0)
            config = self._context.config
            apply_agent_rules(config)
            os.closerange(1, 4096)
            apply_limits(config)
            os.chdir(config["workdir"])
            result = run_operation(
                request["file_op"], request["args"], config["workdir"], config["home"]
            )
            with os.fdopen(0, "wb", closefd=False) as out:
                out.write(json.dumps(result).encode())
        finally:
            os._exit(0)

    def kill(self, number: int) -> None:
        self._kill_reason = "The file operation was interrupted."
        kill_group(self._pid, number)

    def report_kill(self, pid: int, text: str) -> None:
        if pid == self._pid:
            self._kill_reason = text

    def _on_timeout(self) -> None:
        self._kill_reason = "The file operation took too long."
        kill_group(self._pid, signal.SIGKILL)

    def _on_readable(self) -> None:
        data = os.read(self._pipe, READ_SIZE)
        for piece in protocol.split_payload(data):
            self._context.send_frame(protocol.OUT, self._request_id, piece)
        if not data:
            self._context.unwatch(self._pipe)

    def _on_exit(self, _code: int) -> None:
        self._context.cancel_timer(self._timer)
        self._context.unwatch(self._pipe)
        while data := os.read(self._pipe, READ_SIZE):
            for piece in protocol.split_payload(data):
                self._context.send_frame(protocol.OUT, self._request_id, piece)
        os.close(self._pipe)
        end = {"error": self._kill_reason} if self._kill_reason else {}
        self._context.send_frame(protocol.END, self._request_id, json.dumps(end).encode())
        self._context.forget_job(self._request_id)


def run_operation(op: str, args: dict[str, Any], workdir: str, home: str) -> dict[str, Any]:
    """Run one operation; its result, or ``{"error": line}``."""
    try:
        operations = file_ops.OPERATIONS
        if op not in operations:  # a search: its module costs more to import than the others
            from loopat_jupyter.sandboxes.inside import file_search

            operations = file_search.OPERATIONS
        if op not in operations:
            raise file_ops.FileOperationRefused(f"There is no file operation {op}.")
        return operations[op](file_ops.WorkdirPaths(workdir, home), **args)
    except file_ops.FileOperationRefused as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{args.get('path') or workdir}: {error.strerror or error}"}
    except (TypeError, ValueError) as error:
        return {"error": str(error).splitlines()[0] if str(error) else "Bad arguments."}
    except MemoryError:
        return {"error": "The operation needs more memory than the sandbox has."}
