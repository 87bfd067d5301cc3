# Generated from ../_async/files.py by `python tools/generate_sync_client.py`: edit that file.
"""A loop's files and transcripts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO, Literal, overload

from .. import _requests
from .._files import download_path, open_regular_file, read_parts, upload_name
from .._models import FileInfo, LoopInfo
from .concurrency import run_blocking
from .transport import Transport


class LoopFiles:
    """A loop's state as last received, its files, and its transcripts.

    ``info`` is the loop as the server last described it; ``refresh()`` requests it again. Files
    lie in the loop's workdir; a file's name is its path below the workdir, with ``/``.
    """

    def __init__(self, transport: Transport, info: LoopInfo) -> None:
        self._transport = transport
        self.info = info

    @property
    def id(self) -> str:
        return self.info.id

    @property
    def title(self) -> str:
        return self.info.title

    @property
    def archived(self) -> bool:
        return self.info.archived

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.title!r}>"

    # ------------------------------------------------------------- files

    def files(self, path: str = "") -> list[FileInfo]:
        """The entries of the directory ``path`` of the workdir, sorted by name."""
        found: list[FileInfo] = []
        after: str | None = None
        while True:
            page = self._transport.request(_requests.list_files(self.id, path, 100, after))
            found += page.data
            if not page.has_more or page.last_id is None:
                return found
            after = page.last_id

    def put(self, source: str | os.PathLike[str] | bytes, name: str | None = None) -> FileInfo:
        """Copy a local file, or bytes, into the workdir, also while a turn runs.

        The file appears complete, and replaces one of the same name. ``name`` defaults to the
        local file's own; directories in it are created.

        Raises:
            InvalidRequestError: the loop is archived, the name is not allowed, or the file is
                larger than the server's limit (``body_too_large``).
            OSError: the local file cannot be read.
            ValueError: ``name`` is no path in a workdir.
        """
        target = upload_name(source, name)
        if not isinstance(source, str | os.PathLike):
            return self._put_bytes(bytes(source), target)
        file, size = run_blocking(open_regular_file, source)
        with file:
            return self._put_file(file, size, target)

    def _put_bytes(self, data: bytes, name: str) -> FileInfo:
        part_size, size = _requests.UPLOAD_PART_BYTES, len(data)
        if size <= part_size:
            request = _requests.write_file(self.id, name, data)
            received = self._transport.request(request)
            assert received.file is not None
            return received.file
        upload = _requests.new_upload_id()
        file: FileInfo | None = None
        for offset in range(0, size, part_size):
            part = data[offset : offset + part_size]
            request = _requests.write_part(self.id, name, part, upload, offset, size)
            received = self._transport.request(request)
            file = received.file
        assert file is not None
        return file

    def _put_file(self, source: BinaryIO, size: int, name: str) -> FileInfo:
        if size <= _requests.UPLOAD_PART_BYTES:
            return self._put_bytes(run_blocking(source.read), name)
        upload = _requests.new_upload_id()
        file: FileInfo | None = None
        parts = read_parts(source, size)
        while (part := run_blocking(next, parts, None)) is not None:
            request = _requests.write_part(self.id, name, part[1], upload, part[0], size)
            received = self._transport.request(request)
            file = received.file
        assert file is not None
        return file

    @overload
    def get(self, name: str, path: None = None) -> bytes: ...
    @overload
    def get(self, name: str, path: str | os.PathLike[str]) -> Path: ...
    def get(self, name: str, path: str | os.PathLike[str] | None = None) -> bytes | Path:
        """A file of the workdir: its bytes, or with ``path`` the path it was written to.

        ``path`` is a file, or a directory to write it into under its own name. Agents make these
        files: do not trust their content.

        Raises:
            NotFoundError: there is no such file.
            InvalidRequestError: it is no regular file (symlinks are not followed), or too large.
        """
        if path is None:
            return self._transport.request(_requests.read_file(self.id, name))
        target = download_path(path, name)
        self._transport.download(_requests.download_file(self.id, name), target)
        return target

    # ------------------------------------------------------------- transcripts

    @overload
    def transcript(
        self, format: Literal["md"] = "md", *, turn: str | None = None, last: int | None = None
    ) -> str: ...
    @overload
    def transcript(
        self,
        format: Literal["json", "ipynb"],
        *,
        turn: str | None = None,
        last: int | None = None,
    ) -> dict[str, Any]: ...
    def transcript(
        self,
        format: _requests.TranscriptFormat = "md",
        *,
        turn: str | None = None,
        last: int | None = None,
    ) -> str | dict[str, Any]:
        """The loop's transcript: Markdown (``md``), or as a ``dict`` its data or a notebook.

        ``turn``: of that turn only; ``last``: of that many of the newest turns.
        """
        found: str | dict[str, Any] = self._transport.request(
            _requests.get_transcript(self.id, format, turn, last)
        )
        return found

    def to_notebook(
        self, path: str | os.PathLike[str], *, turn: str | None = None, last: int | None = None
    ) -> Path:
        """Write the loop's transcript as a notebook and return its path.

        In a directory the file is named by the loop's id. Nothing is executed; the cells with the
        agent's commands are tagged so that nbclient and papermill do not execute them either.
        """
        target = download_path(path, f"{self.id}.ipynb")
        request = _requests.download_transcript(self.id, "ipynb", turn, last)
        self._transport.download(request, target)
        return target
