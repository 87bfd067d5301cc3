"""A Jupyter server that people look at: JupyterLab 4 and Notebook 7 on one real server.

What a front end does on its own account (asks for news, offers tours) is switched off; everything
that concerns notebooks, kernels and widgets is as shipped. Both applications put themselves on
``window.jupyterapp``, so that a test can wait for what they really did instead of guessing.

Sessions are made over the REST API before a page is opened. A page that opens a notebook with a
session takes that session's kernel: so notebooks can share one that is already warm.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import nbformat

from tests.support.server import STOP_TIMEOUT, JupyterServer

SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension:notification": {
        "checkForUpdates": False,
        "fetchNews": "false",
        "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
"""Defaults of the front ends for tests; autosave is off since tests save when they mean to."""

OPTIONS = (
    "--LabApp.expose_app_in_browser=True",
    "--JupyterNotebookApp.expose_app_in_browser=True",
    "--LoopatExtension.ping_interval=1",
    "--LoopatExtension.default_permission_mode=default",  # people are asked, whatever isolates
)


class NotebookServer(JupyterServer):
    """A server with both front ends, and notebooks on it."""

    def __init__(self, directory: Path, *, options: Sequence[str] = (), **more: Any) -> None:
        super().__init__(directory, options=[*OPTIONS, *options], faces=True, **more)
        defaults = directory / "config" / "labconfig" / "default_setting_overrides.json"
        defaults.parent.mkdir(exist_ok=True)
        defaults.write_text(json.dumps(SETTINGS))

    def write_notebook(self, name: str, cells: Sequence[str]) -> str:
        """A notebook with these code cells below the server's root; its path there."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={
                "kernelspec": {
                    "name": "python3",
                    "display_name": "Python 3 (ipykernel)",
                    "language": "python",
                }
            },
        )
        path = f"{name}.ipynb"
        nbformat.write(notebook, self.root / path)
        return path

    def forget_settings(self) -> None:
        """What tests set in the front ends (a theme, say) is nothing to the next one."""
        shutil.rmtree(self.directory / "config" / "lab" / "user-settings", ignore_errors=True)

    def read_notebook(self, path: str) -> nbformat.NotebookNode:
        return nbformat.read(self.root / path, as_version=4)

    # ------------------------------------------------------------------ kernels

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call of Jupyter's own REST API as the server's owner; the parsed answer."""
        answer = httpx.request(
            method, f"{self.url}api/{path}", json=body, headers=self.session, timeout=STOP_TIMEOUT
        )
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def open_session(self, path: str, kernel_id: str | None = None) -> str:
        """Bind the notebook at ``path`` to a kernel (a new one by default); the kernel's id."""
        kernel = {"name": "python3"} if kernel_id is None else {"id": kernel_id}
        body = {"path": path, "name": path, "type": "notebook", "kernel": kernel}
        return str(self.call("POST", "sessions", body)["kernel"]["id"])

    # ------------------------------------------------------------------ loops

    def loop_api(self, method: str, path: str, body: object = None) -> Any:
        """One call of the Loop API with the server's token; the parsed answer."""
        answer = httpx.request(
            method, f"{self.api_url}/{path}", json=body, headers=self.session, timeout=STOP_TIMEOUT
        )
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def new_loop(self, title: str = "A loop") -> str:
        """A new loop's id."""
        return str(self.loop_api("POST", "loops", {"title": title})["id"])
