"""The notebook this kernel belongs to, as its server has it on disk. Read only.

Found by asking the server which session has this kernel (so a renamed notebook is found too),
then read through its contents API with the client's own credentials. A program's ``la_`` token
may not do that, and not every kernel has a notebook: then there is none, and nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from loopat_jupyter.client import ServerAddress

from ._mime_bundle import STORY_MIME, StoryRecord

TIMEOUT = 10.0
SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes of a notebook; a larger one is not read."""


def kernel_id() -> str | None:
    """The id that the Jupyter server gave this kernel: it names the connection file."""
    try:
        from ipykernel.connect import get_connection_file

        name = Path(get_connection_file()).stem
    except (ImportError, RuntimeError):  # no kernel, or one that was not started from a file
        return None
    return name.removeprefix("kernel-") if name.startswith("kernel-") else None


class SavedNotebook:
    """One look at the file: its ``name`` and the records in its outputs."""

    def __init__(self, path: str, content: Mapping[str, Any]) -> None:
        self.name = path.rsplit("/", 1)[-1].removesuffix(".ipynb")
        self._content = content

    def record(self, cell_id: str) -> StoryRecord | None:
        """What the outputs of the cell ``cell_id`` say, the newest of them."""
        found = None
        for output in self._outputs(cell_id):
            data = output.get("data")
            if isinstance(data, Mapping) and STORY_MIME in data:
                found = StoryRecord.parse(data[STORY_MIME]) or found
        return found

    def _outputs(self, cell_id: str) -> Iterator[Mapping[str, Any]]:
        for cell in _items(self._content.get("cells")):
            if cell.get("id") == cell_id:
                yield from _items(cell.get("outputs"))


def read_notebook(address: ServerAddress) -> SavedNotebook | None:
    """The notebook of this kernel, or ``None`` where there is none to be read."""
    kernel = kernel_id()
    if kernel is None or address.authorization is None or (address.token or "").startswith("la_"):
        return None
    transport = httpx.HTTPTransport(uds=address.socket) if address.socket else None
    with httpx.Client(
        base_url=address.server_url,
        headers={"Authorization": address.authorization},
        timeout=TIMEOUT,
        trust_env=not address.is_local,
        transport=transport,
    ) as http:
        sessions = _json(http, "api/sessions")
        path = next(
            (s.get("path") for s in _items(sessions) if _kernel_of(s) == kernel),
            None,
        )
        if not isinstance(path, str):
            return None
        model = _json(http, f"api/contents/{quote(path)}?type=notebook&content=1")
    content = model.get("content") if isinstance(model, Mapping) else None
    return SavedNotebook(path, content if isinstance(content, Mapping) else {})


def _kernel_of(session: Mapping[str, Any]) -> Any:
    kernel = session.get("kernel")
    return kernel.get("id") if isinstance(kernel, Mapping) else None


def _json(http: httpx.Client, path: str) -> Any:
    """The decoded answer, or ``None`` for any that is not a modest success."""
    try:
        with http.stream("GET", path) as response:
            if response.status_code != httpx.codes.OK:
                return None
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > SIZE_LIMIT:
                    return None
        return httpx.Response(200, content=bytes(body)).json()
    except (httpx.HTTPError, ValueError):
        return None


def _items(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list, of whatever stands where a list should."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
