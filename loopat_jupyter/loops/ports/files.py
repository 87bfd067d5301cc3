"""The file port: listing, reading and writing a loop's files from outside its sandbox.

The domain passes a loop and a path; :mod:`loopat_jupyter.workspace.files` knows the directories.
A path is relative to the loop's workdir, with ``/`` between its parts; none of them is empty, ``.``
or ``..``. What is in a workdir was made by an agent and is hostile: an implementation follows no
symlink, opens nothing but regular files and directories, and cannot be led out of the workdir
whatever is swapped under it meanwhile.

All methods work whether or not the loop's sandbox runs, block nothing, and raise
:class:`~loopat_jupyter.loops.errors.InvalidParameter` (no such path can be, or it names what is no
file), :class:`~loopat_jupyter.loops.errors.NotFound` or
:class:`~loopat_jupyter.loops.errors.PermissionRefused` (the agent shut the server out of it).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from ..errors import InvalidRequest
from ..models import LoopRecord

FileType = Literal["file", "directory", "folder", "symlink", "other"]
"""``folder``: a folder of the Jupyter server that the loop was created with; its files are there
and not here. ``other``: a pipe, socket or device."""


class FileTooLarge(InvalidRequest):
    """What is put would be over the limit of one file."""

    code = "body_too_large"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One name in a directory, as it was found. ``path`` is ``None`` where the name is no UTF-8,
    so that it cannot be asked for; ``name`` then holds replacement characters."""

    name: str
    path: str | None
    type: FileType
    size: int | None
    """Bytes, of a ``file`` alone."""
    modified: str | None


@dataclass(frozen=True, slots=True)
class FileListing:
    """A page of a directory, in the order of the names' bytes. ``last_id`` is its cursor."""

    entries: list[FileEntry]
    has_more: bool
    last_id: str | None
    truncated: bool
    """The directory holds more names than are looked at; which ones are left out is not known."""


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A piece of an upload: ``upload`` is the sender's own id for it, ``offset`` where the piece
    begins and ``size`` what the whole will have, in bytes."""

    upload: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """What there is of a file after a piece of it. ``file`` once it is whole and in its place."""

    received: int
    size: int
    file: FileEntry | None


class FileReader(Protocol):
    """An open file. ``size`` was its size when it was opened, and no more than that is read."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes, piece by piece; fewer than ``size`` where it shrank meanwhile."""


class LoopFileStore(Protocol):
    """The files of every loop."""

    async def list(
        self, loop: LoopRecord, path: str, *, limit: int, after: str | None
    ) -> FileListing:
        """A page of the directory ``path`` (``""``: the workdir). Raises ``InvalidCursor``."""

    def open(self, loop: LoopRecord, path: str) -> AbstractAsyncContextManager[FileReader]:
        """Open the file. Raises ``ContentTooLarge`` on entering where it is over the limit."""

    async def put(
        self, loop: LoopRecord, path: str, data: bytes, part: UploadPart | None
    ) -> UploadProgress:
        """Write the file, or a part of it; directories on the way are made.

        A file appears whole, and replaces another as a whole. Parts are kept out of sight until
        the last one. A part may be sent again: what was received from its offset on is dropped.

        Raises:
            FileTooLarge: it would be over the limit.
            StoreError: the disk is full.
        """

    async def remove_loop(self, loop: LoopRecord) -> None:
        """Forget unfinished uploads: the loop was archived."""

    def close(self) -> None:
        """Blocks until what is under way is done; call it off the event loop."""
