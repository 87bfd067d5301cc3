"""A notebook front end without a browser: a session of a real server, and its kernel.

It sends what JupyterLab sends (the cell's id, whether a person could be asked) and keeps outputs as
a notebook document does, updates by display id included. The kernel is spoken to directly; which
messages a browser would have seen is the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty
from typing import Any, Self

import httpx
import nbformat
from jupyter_client.blocking.client import BlockingKernelClient

from .server import JupyterServer

TIMEOUT = 60.0
Output = dict[str, Any]


@dataclass
class Ran:
    """One run of a cell. ``published`` are the times of everything it showed, updates included."""

    status: str
    outputs: list[Output]
    published: list[float] = field(default_factory=list)

    @property
    def stderr(self) -> str:
        return self._stream("stderr")

    @property
    def stdout(self) -> str:
        return self._stream("stdout")

    def _stream(self, name: str) -> str:
        found = [o["text"] for o in self.outputs if o["output_type"] == "stream"]
        names = [o["name"] for o in self.outputs if o["output_type"] == "stream"]
        return "".join(text for text, one in zip(found, names, strict=True) if one == name)

    @property
    def data(self) -> list[dict[str, Any]]:
        """The bundles that the cell shows."""
        return [o["data"] for o in self.outputs if "data" in o]

    @property
    def markdown(self) -> str:
        return "\n".join(data["text/markdown"] for data in self.data if "text/markdown" in data)


class FrontEnd:
    """One notebook of ``server``, open at ``path``, with a kernel of its own."""

    def __init__(self, server: JupyterServer, path: str = "notebook.ipynb") -> None:
        self.server = server
        self.path = path
        self.outputs: dict[str, list[Output]] = {}
        """By the cell's id: what the notebook document holds."""
        self._sources: dict[str, str] = {}
        self._displays: dict[str, list[Output]] = {}
        self._interrupts: list[threading.Thread] = []
        self._http = httpx.Client(base_url=server.url, headers=server.session, timeout=TIMEOUT)
        body = {"path": path, "type": "notebook", "name": path, "kernel": {"name": "python3"}}
        answer = self._http.post("api/sessions", json=body)
        assert answer.status_code == 201, answer.text
        self.session = answer.json()["id"]
        self.kernel = answer.json()["kernel"]["id"]
        file = server.directory / "runtime" / f"kernel-{self.kernel}.json"
        self.client = BlockingKernelClient(connection_file=str(file))
        self.client.load_connection_file()
        self.client.start_channels(hb=False)  # a busy machine's beats are late
        self.client.wait_for_ready(timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        for thread in self._interrupts:
            thread.join()
        self.client.stop_channels()
        self._http.delete(f"api/sessions/{self.session}").raise_for_status()
        self._http.close()

    # ------------------------------------------------------------- cells

    def run(
        self,
        source: str,
        cell: str = "",
        *,
        attended: bool = False,
        seen: Callable[[Ran], None] | None = None,
        answer: Callable[[str], str | None] | None = None,
    ) -> Ran:
        """Run a cell to its end. ``seen`` is told after everything that is shown, ``answer`` gives
        what a person types at a prompt, or nothing."""
        cell = cell or f"cell-{len(self._sources)}"
        self._sources[cell], self.outputs[cell] = source, []
        content = {
            "code": source, "silent": False, "store_history": True, "user_expressions": {},
            "allow_stdin": attended, "stop_on_error": True,
        }  # fmt: skip
        message = self.client.session.msg("execute_request", content, metadata={"cellId": cell})
        ran = Ran("", self.outputs[cell])
        self.client.shell_channel.send(message)
        ident = message["header"]["msg_id"]
        give_up = time.monotonic() + TIMEOUT
        while True:
            assert time.monotonic() < give_up, f"the cell does not end; it shows {ran.outputs}"
            if answer is not None:
                self._answer(answer)
            try:
                got = self.client.get_iopub_msg(timeout=0.2)
            except Empty:
                continue
            if self._take(got, ident, ran) and seen is not None:
                seen(ran)
            if got["parent_header"].get("msg_id") == ident and _is_idle(got):
                break
        ran.status = self._reply(ident)
        return ran

    def listen(self, until: Callable[[], bool]) -> None:
        """Take what the kernel shows between cells, until ``until()``."""
        give_up = time.monotonic() + TIMEOUT
        while not until():
            assert time.monotonic() < give_up, f"it never comes; there is {self.outputs}"
            try:
                self._take(self.client.get_iopub_msg(timeout=0.2), "", Ran("", []))
            except Empty:
                continue

    def interrupt(self) -> None:
        """What the stop button does; from a thread, so that a callback may call it."""

        def post() -> None:
            url = f"{self.server.url}api/kernels/{self.kernel}/interrupt"
            httpx.post(url, headers=self.server.session, timeout=TIMEOUT).raise_for_status()

        self._interrupts.append(threading.Thread(target=post))
        self._interrupts[-1].start()

    def complete(self, code: str) -> list[str]:
        """What Tab offers at the end of ``code``."""
        ident = self.client.complete(code, len(code))
        while True:
            reply = self.client.get_shell_msg(timeout=TIMEOUT)
            if reply["parent_header"]["msg_id"] == ident:
                found: list[str] = reply["content"]["matches"]
                return found

    # ------------------------------------------------------------- the file

    def document(self) -> Any:
        """The notebook as it would be saved now."""
        cells = []
        for ident, source in self._sources.items():
            cell = nbformat.v4.new_code_cell(source, id=ident)
            cell.outputs = [nbformat.from_dict(output) for output in self.outputs[ident]]
            cells.append(cell)
        document = nbformat.v4.new_notebook(cells=cells)
        nbformat.validate(document)
        return document

    def save(self) -> None:
        body = {"type": "notebook", "format": "json", "content": self.document()}
        self._http.put(f"api/contents/{self.path}", json=body).raise_for_status()

    # ------------------------------------------------------------- messages

    def _take(self, message: Any, ident: str, ran: Ran) -> bool:
        """Put what a message shows where it belongs; did it show anything?"""
        kind, content = message["msg_type"], message["content"]
        mine = message["parent_header"].get("msg_id") == ident
        if kind not in {"stream", "display_data", "execute_result", "error", "update_display_data"}:
            return False
        ran.published.append(time.monotonic())
        display = (content.get("transient") or {}).get("display_id")
        if kind == "update_display_data":
            for output in self._displays.get(display, []):
                output["data"] = content["data"]
            return True
        if mine:
            self._append(ran.outputs, kind, content, display)
        return mine

    def _append(self, outputs: list[Output], kind: str, content: Any, display: str | None) -> None:
        if kind == "stream":
            last = outputs[-1] if outputs else {}
            if last.get("name") == content["name"]:
                last["text"] += content["text"]
                return
            outputs.append({"output_type": "stream", **content})
        elif kind == "error":
            outputs.append({"output_type": "error", **content})
        else:
            output = {"output_type": kind, "data": content["data"], "metadata": content["metadata"]}
            if kind == "execute_result":
                output["execution_count"] = content["execution_count"]
            outputs.append(output)
            if display is not None:
                self._displays.setdefault(display, []).append(output)

    def _answer(self, answer: Callable[[str], str | None]) -> None:
        try:
            asked = self.client.get_stdin_msg(timeout=0)
        except Empty:
            return
        typed = answer(asked["content"]["prompt"])
        if typed is not None:
            self.client.input(typed)

    def _reply(self, ident: str) -> str:
        while True:
            reply = self.client.get_shell_msg(timeout=TIMEOUT)
            if reply["parent_header"].get("msg_id") == ident:
                return str(reply["content"]["status"])


def _is_idle(message: Any) -> bool:
    return bool(message["msg_type"] == "status" and message["content"]["execution_state"] == "idle")
