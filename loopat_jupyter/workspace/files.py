"""A loop's files: implements :class:`~loopat_jupyter.loops.ports.files.LoopFileStore`.

The server works on the host's directory itself, so this needs no running sandbox and is the same in
every tier. :mod:`.safe_path` opens paths in a workdir whose contents are hostile, :mod:`.uploads`
writes files into it. File I/O runs in a thread pool of its own, so that a slow file system delays
no other part of the server.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import stat
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ..loops.errors import ContentTooLarge, InvalidCursor, InvalidParameter
from ..loops.models import LoopRecord
from ..loops.ports.files import (
    FileEntry,
    FileListing,
    FileTooLarge,
    FileType,
    UploadPart,
    UploadProgress,
)
from .safe_path import (
    NAME_LIMIT,
    as_api_errors,
    has_deceptive_characters,
    open_directory,
    open_file,
    open_root,
    parse_path,
    quoted_name,
)
from .uploads import Uploads

T = TypeVar("T")

THREADS = 4
CHUNK = 256 << 10
"""Bytes of one read, and of one chunk of a response."""
SCAN_LIMIT = 100_000
"""The most names of one directory that are read for a page of it."""


class OpenFile:
    """Implements :class:`~loopat_jupyter.loops.ports.files.FileReader`."""

    def __init__(self, name: str, fd: int, size: int, threads: ThreadPoolExecutor) -> None:
        self.name = name
        self.size = size
        self._fd = fd
        self._threads = threads

    async def chunks(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        offset = 0
        while offset < self.size:
            wanted = min(CHUNK, self.size - offset)
            chunk = await loop.run_in_executor(self._threads, os.pread, self._fd, wanted, offset)
            if not chunk:
                return
            offset += len(chunk)
            yield chunk


class WorkspaceFiles:
    """Lists, reads and writes files in the workdirs of all loops.

    ``loop_dir`` gives a loop's directory on the host; ``max_size`` is the largest file in bytes,
    both ways; ``owner`` is the uid that sandboxes run as, ``None`` for the server's own.
    """

    def __init__(
        self, loop_dir: Callable[[str], Path], *, max_size: int, owner: int | None
    ) -> None:
        self._loop_dir = loop_dir
        self._max_size = max_size
        self._owner = owner
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="loopat-files")
        self._locks: weakref.WeakValueDictionary[str, threading.Lock] = (
            weakref.WeakValueDictionary()
        )

    # ------------------------------------------------------------------ reading

    async def list(
        self, loop: LoopRecord, path: str, *, limit: int, after: str | None
    ) -> FileListing:
        parts = parse_path(path) if path else ()
        cursor = b"" if after is None else _cursor(after)
        folders = _folders(loop)
        _refuse_folder(folders, parts)

        def work() -> FileListing:
            with (
                as_api_errors(path),
                open_root(self._workdir(loop)) as top,
                open_directory(top, parts) as directory,
            ):
                return _page(directory, path, {} if parts else folders, limit, cursor)

        return await self._in_thread(work)

    @asynccontextmanager
    async def open(self, loop: LoopRecord, path: str) -> AsyncIterator[OpenFile]:
        parts = parse_path(path)
        _refuse_folder(_folders(loop), parts)

        def work() -> OpenFile:
            with as_api_errors(path), open_root(self._workdir(loop)) as top:
                fd, found = open_file(top, parts)
            if found.st_size > self._max_size:
                os.close(fd)
                raise ContentTooLarge(
                    f"{quoted_name(path)} has {found.st_size} bytes, and files of more than "
                    f"{self._max_size} are not sent. Let the agent split or compress it."
                )
            return OpenFile(parts[-1], fd, found.st_size, self._threads)

        opening = asyncio.ensure_future(self._in_thread(work))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        try:
            yield file
        finally:
            os.close(file._fd)

    # ------------------------------------------------------------------ writing

    async def put(
        self, loop: LoopRecord, path: str, data: bytes, part: UploadPart | None
    ) -> UploadProgress:
        parts = parse_path(path)
        _refuse_folder(_folders(loop), parts)
        size = len(data) if part is None else part.size
        if size > self._max_size:
            raise FileTooLarge(f"A file has at most {self._max_size} bytes; this one has {size}.")
        if part is not None and part.offset + len(data) > part.size:
            raise InvalidParameter("offset: this part goes beyond the size of the file.")
        uploads = self._uploads(loop)
        lock = self._lock(loop)

        def work() -> UploadProgress:
            with lock, as_api_errors(path):
                if has_deceptive_characters(path) and not self._exists(loop, parts):
                    raise InvalidParameter(
                        f"path: {quoted_name(path)} holds control characters or direction marks, "
                        "with which it would be taken for another. Choose another name."
                    )
                if part is None:
                    received, found = size, uploads.write_whole(parts, data)
                else:
                    received, committed = uploads.write_part(parts, data, part)
                    if committed is None:
                        return UploadProgress(received, size, None)
                    found = committed
            return UploadProgress(received, size, _entry(parts[-1], path, found))

        return await self._in_thread(work)

    async def remove_loop(self, loop: LoopRecord) -> None:
        lock, uploads = self._lock(loop), self._uploads(loop)

        def work() -> None:
            with lock, as_api_errors("uploads"):
                uploads.remove_loop()

        await self._in_thread(work)

    def close(self) -> None:
        self._threads.shutdown()

    # ------------------------------------------------------------------ one loop

    def _workdir(self, loop: LoopRecord) -> Path:
        return self._loop_dir(loop.loop_id) / "workdir"

    def _exists(self, loop: LoopRecord, parts: tuple[str, ...]) -> bool:
        try:
            with (
                open_root(self._workdir(loop)) as top,
                open_directory(top, parts[:-1]) as directory,
            ):
                os.stat(parts[-1], dir_fd=directory, follow_symlinks=False)
        except OSError:
            return False
        return True

    def _uploads(self, loop: LoopRecord) -> Uploads:
        return Uploads(self._loop_dir(loop.loop_id), self._owner)

    def _lock(self, loop: LoopRecord) -> threading.Lock:
        lock = self._locks.get(loop.loop_id)
        if lock is None:
            lock = self._locks[loop.loop_id] = threading.Lock()
        return lock

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _close_opened(opening: asyncio.Future[OpenFile]) -> None:
    """The thread that opens a file cannot be cancelled: close what it opened for nobody."""
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()._fd)


def _folders(loop: LoopRecord) -> dict[str, str]:
    """The loop's folders: name in the workdir to path under the server's root directory."""
    return {folder.path.rstrip("/").rpartition("/")[2]: folder.path for folder in loop.folders}


def _refuse_folder(folders: Mapping[str, str], parts: tuple[str, ...]) -> None:
    if parts and parts[0] in folders:
        raise InvalidParameter(
            f"path: {quoted_name(parts[0])} is the folder {quoted_name(folders[parts[0]])} of the "
            "Jupyter server. Its files are there: use Jupyter's file browser or its contents API."
        )


# --------------------------------------------------------------------------- a page of a directory


def _cursor(text: str) -> bytes:
    name = unquote_to_bytes(text)
    if not name or len(name) > NAME_LIMIT or b"/" in name or _as_cursor(name) != text:
        raise InvalidCursor("after: take the last_id of a page of this folder.")
    return name


def _as_cursor(name: bytes) -> str:
    return quote_from_bytes(name, safe="")


def _page(
    directory: int, path: str, folders: Mapping[str, str], limit: int, after: bytes
) -> FileListing:
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.scandir(fd) as scan:
            names = (os.fsencode(entry.name) for entry in islice(scan, SCAN_LIMIT))
            own = {os.fsencode(name) for name in folders}
            wanted = {name for name in names if name > after} | {n for n in own if n > after}
            truncated = next(scan, None) is not None
        picked = heapq.nsmallest(limit + 1, wanted)
        entries = [_stat_entry(directory, name, path, name in own) for name in picked[:limit]]
    finally:
        os.close(fd)
    return FileListing(
        entries=[entry for entry in entries if entry is not None],
        has_more=len(picked) > limit,
        last_id=_as_cursor(picked[:limit][-1]) if picked else None,
        truncated=truncated,
    )


def _stat_entry(directory: int, name: bytes, path: str, is_folder: bool) -> FileEntry | None:
    text = name.decode("utf-8", "replace")
    whole_path = f"{path}/{text}" if path else text
    if is_folder:
        return FileEntry(text, whole_path, "folder", None, None)
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:  # removed since the scan
        return None
    return _entry(text, whole_path if text.encode() == name else None, found)


def _entry(name: str, path: str | None, found: os.stat_result) -> FileEntry:
    kind: FileType = "other"
    if stat.S_ISREG(found.st_mode):
        kind = "file"
    elif stat.S_ISDIR(found.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(found.st_mode):
        kind = "symlink"
    size = found.st_size if kind == "file" else None
    return FileEntry(name, path, kind, size, _time(found.st_mtime_ns))


def _time(nanoseconds: int) -> str | None:
    """RFC 3339; ``None`` for a time outside of the years 1 to 9999, which an agent can set."""
    try:
        moment = datetime.fromtimestamp(nanoseconds // 1000 / 1e6, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
