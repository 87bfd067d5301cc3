"""What a notebook must never hold: credentials, an address with one, a path of the server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import loopat_jupyter

from .notebook_page import NotebookPage

API_TOKEN = re.compile(r"la_[0-9a-f]{48}")
ADDRESS = re.compile(r"https?://[^\s\"\\]*token=")


def story(page: NotebookPage, cell: int = 0) -> str:
    """The Markdown that tells the conversation to whoever opens the file without a kernel."""
    outputs = page.server.read_notebook(page.path).cells[cell].outputs
    return "".join(one.data.get("text/markdown", "") for one in outputs if "data" in one)


def hold_no_secret(page: NotebookPage) -> None:
    """Fail if the saved notebook of the page holds one of them, but for what a person typed."""
    server = page.server
    notebook = server.read_notebook(page.path)
    for cell in notebook.cells:
        cell.source = ""
    text = json.dumps(notebook)
    package = str(Path(loopat_jupyter.__file__).parent)
    for found in (server.token, str(server.directory), f":{server.port}", package):
        assert found not in text, f"the notebook holds {found!r}"
    for pattern in (API_TOKEN, ADDRESS):
        match = pattern.search(text)
        assert match is None, match
