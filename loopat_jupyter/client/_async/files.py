"""What goes in and out of a loop besides turns: files, transcripts. For asyncio callers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, BinaryIO, Literal, overload

from .. import _file_requests as calls
from .._local_files import local_path, open_local, pieces, target_name
from .._loop_view import LoopView
from .._models import FileInfo, LoopInfo
from .transport import AsyncTransport


class AsyncLoopFiles(LoopView):
    """Files lie in the loop's workdir; a name is a path from there on, with ``/``."""

    def __init__(self, carrier: AsyncTransport, info: LoopInfo) -> None:
        super().__init__(info)
        self._carrier = carrier

    # ------------------------------------------------------------- files

    async def files(self, path: str = "") -> list[FileInfo]:
        """What lies in the directory ``path`` of the workdir, in the order of the names."""
        found: list[FileInfo] = []
        after: str | None = None
        while True:
            page = await self._carrier.request(calls.list_files(self.id, path, 100, after))
            found += page.data
            if not page.has_more or page.last_id is None:
                return found
            after = page.last_id

    async def put(
        self, source: str | os.PathLike[str] | bytes, name: str | None = None
    ) -> FileInfo:
        """Copy a local file, or bytes, into the workdir, also while a turn runs.

        The file appears whole, and replaces one of the same name. ``name`` defaults to the local
        file's own; directories in it are made.

        Raises:
            InvalidRequestError: the loop is archived, the name cannot be, or the file is larger
                than the server's limit (``body_too_large``).
            OSError: the local file cannot be read.
            ValueError: ``name`` is no path in a workdir.
        """
        target = target_name(source, name)
        if not isinstance(source, str | os.PathLike):
            return await self._put_bytes(bytes(source), target)
        file, size = await asyncio.to_thread(open_local, source)
        with file:
            return await self._put_file(file, size, target)

    async def _put_bytes(self, data: bytes, name: str) -> FileInfo:
        if len(data) <= calls.PART:
            got = await self._carrier.request(calls.write_file(self.id, name, data))
            assert got.file is not None
            return got.file
        upload, size = calls.new_upload(), len(data)
        file: FileInfo | None = None
        for offset in range(0, size, calls.PART):
            piece = data[offset : offset + calls.PART]
            part = calls.write_part(self.id, name, piece, upload, offset, size)
            file = (await self._carrier.request(part)).file
        assert file is not None
        return file

    async def _put_file(self, source: BinaryIO, size: int, name: str) -> FileInfo:
        if size <= calls.PART:
            return await self._put_bytes(await asyncio.to_thread(source.read), name)
        upload = calls.new_upload()
        file: FileInfo | None = None
        parts = pieces(source, size)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            call = calls.write_part(self.id, name, part[1], upload, part[0], size)
            file = (await self._carrier.request(call)).file
        assert file is not None
        return file

    @overload
    async def get(self, name: str, path: None = None) -> bytes: ...
    @overload
    async def get(self, name: str, path: str | os.PathLike[str]) -> Path: ...
    async def get(self, name: str, path: str | os.PathLike[str] | None = None) -> bytes | Path:
        """A file of the workdir: its bytes, or with ``path`` where it was written here.

        ``path`` is a file, or a directory to write it into under its own name. What an agent made
        is not to be trusted: look before you open it.

        Raises:
            NotFoundError: there is none.
            InvalidRequestError: it is no regular file (symlinks are not followed), or too large.
        """
        if path is None:
            return await self._carrier.request(calls.read_file(self.id, name))
        target = local_path(path, name)
        await self._carrier.save(calls.save_file(self.id, name), target)
        return target

    # ------------------------------------------------------------- transcripts

    @overload
    async def transcript(
        self, format: Literal["md"] = "md", *, turn: str | None = None, last: int | None = None
    ) -> str: ...
    @overload
    async def transcript(
        self,
        format: Literal["json", "ipynb"],
        *,
        turn: str | None = None,
        last: int | None = None,
    ) -> dict[str, Any]: ...
    async def transcript(
        self,
        format: calls.TranscriptFormat = "md",
        *,
        turn: str | None = None,
        last: int | None = None,
    ) -> str | dict[str, Any]:
        """The loop's story: Markdown (``md``), or as a ``dict`` its data or a notebook.

        ``turn``: of that turn alone; ``last``: of so many turns, the newest.
        """
        found: str | dict[str, Any] = await self._carrier.request(
            calls.transcript(self.id, format, turn, last)
        )
        return found

    async def to_notebook(
        self, path: str | os.PathLike[str], *, turn: str | None = None, last: int | None = None
    ) -> Path:
        """Write the loop's story as a notebook; returns where it is.

        A directory gets a file named by the loop's id. Nothing is executed; the cells with the
        agent's commands are marked so that nbclient and papermill do not run them either.
        """
        target = local_path(path, f"{self.id}.ipynb")
        await self._carrier.save(calls.save_transcript(self.id, "ipynb", turn, last), target)
        return target
