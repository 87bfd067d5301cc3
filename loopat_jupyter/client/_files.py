"""Local files: reading those that are uploaded, writing those that are downloaded."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from ._requests import UPLOAD_PART_BYTES


def upload_name(source: str | os.PathLike[str] | bytes, name: str | None) -> str:
    """The name of ``source`` in the workdir. Raises ``ValueError`` for bytes without a name."""
    if name is not None:
        return name
    if isinstance(source, str | os.PathLike):
        return Path(source).name
    raise ValueError("bytes have no name: say how the file is to be called, with name=")


def download_path(path: str | os.PathLike[str], name: str) -> Path:
    """The local path for the file ``name`` of a loop: within ``path`` if that is a directory."""
    target = Path(path)
    return target / PurePosixPath(name).name if target.is_dir() else target


def open_regular_file(source: str | os.PathLike[str]) -> tuple[BinaryIO, int]:
    """A local file and its size in bytes. Raises ``OSError``, also where it is not regular."""
    # O_NONBLOCK: opening a named pipe would otherwise wait for its writer.
    fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode):
        return os.fdopen(fd, "rb"), found.st_size
    os.close(fd)
    raise OSError(f"{os.fspath(source)} is no regular file")


def read_parts(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """The parts of an open file of ``size`` bytes, each with its offset.

    Raises:
        OSError: the file became shorter while it was read.
    """
    offset = 0
    while offset < size:
        piece = file.read(min(UPLOAD_PART_BYTES, size - offset))
        if not piece:
            raise OSError(f"{file.name} became shorter while it was sent")
        yield offset, piece
        offset += len(piece)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file to write to; it replaces ``path`` when the block ends without an error."""
    temporary = path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}")
    with temporary.open("xb") as file:
        try:
            yield file
            file.flush()
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise
