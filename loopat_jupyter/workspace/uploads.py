"""Uploads into a loop's workdir: files are assembled in a staging directory, then renamed.

The staging directory ``loops/<id>/uploads`` is in no sandbox, so no process inside can touch a file
before it is complete. The rename is atomic: a reader sees the old file or the new one. A file that
is replaced hands its permissions to the new one and is never written into, since a process inside
could have linked it to another place.

One upload at a time works on a loop: the caller holds the loop's lock. Unfinished uploads are
removed after :data:`KEPT` seconds, and the oldest when there are more than :data:`OPEN`.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..loops.errors import InvalidParameter
from ..loops.ports.files import UploadPart
from .safe_path import open_directory, open_root, quoted_name

KEPT = 24 * 3600.0
"""Seconds since its last part after which an unfinished upload is removed."""
OPEN = 8
"""The most unfinished uploads of one loop."""

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Uploads:
    """The uploads of one loop. ``owner`` is the uid its sandbox runs as, ``None`` for the
    server's own."""

    def __init__(self, loop_dir: Path, owner: int | None) -> None:
        self._workdir = loop_dir / "workdir"
        self._staging = loop_dir / "uploads"
        self._owner = -1 if owner is None else owner

    def write_whole(self, parts: Sequence[str], data: bytes) -> os.stat_result:
        """Write a file that came in one request. Raises ``OSError``, ``InvalidParameter``."""
        with self._open_staging() as staging:
            name = f"whole-{uuid.uuid4().hex}"
            try:
                _write(staging, name, data, 0)
                return self._commit(staging, name, parts)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=staging)

    def write_part(
        self, parts: Sequence[str], data: bytes, part: UploadPart
    ) -> tuple[int, os.stat_result | None]:
        """Write one part. Returns the bytes received so far, and the file's status once complete.

        Raises ``OSError``, and ``InvalidParameter`` for a part that would leave a hole.
        """
        name = _staged_name(parts, part)
        with self._open_staging() as staging:
            received = _size(staging, name)
            if part.offset > received:
                raise InvalidParameter(
                    f"offset: this upload has {received} of {part.size} bytes. Go on from there."
                )
            if part.offset == 0 and received == 0:
                _prune(staging, keep=OPEN - 1)
            received = _write(staging, name, data, part.offset)
            if received < part.size:
                return received, None
            return received, self._commit(staging, name, parts)

    def remove_loop(self) -> None:
        """Remove the loop's unfinished uploads."""
        with suppress(FileNotFoundError), open_root(self._staging) as staging:
            _prune(staging, keep=0)

    @contextmanager
    def _open_staging(self) -> Iterator[int]:
        with suppress(FileExistsError):
            self._staging.mkdir(mode=0o700)
        with open_root(self._staging) as staging:
            yield staging

    def _commit(self, staging: int, name: str, parts: Sequence[str]) -> os.stat_result:
        """Rename a complete file to its path in the workdir, with its owner and permissions."""
        path = "/".join(parts)
        with (
            open_root(self._workdir) as top,
            open_directory(top, parts[:-1], make_for=self._owner) as parent,
        ):
            mode = _mode(parent, parts[-1], path)
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=staging)
            try:
                os.fchown(fd, self._owner, self._owner)
                os.fchmod(fd, mode)
                os.rename(name, parts[-1], src_dir_fd=staging, dst_dir_fd=parent)
                return os.fstat(fd)
            finally:
                os.close(fd)


def _mode(parent: int, name: str, path: str) -> int:
    """The permissions of the new file: those of the one it replaces, else 0644."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return 0o644
    if stat.S_ISDIR(found.st_mode):
        raise InvalidParameter(f"path: {quoted_name(path)} is a folder.")
    if not stat.S_ISREG(found.st_mode):
        raise InvalidParameter(
            f"path: there is a symlink, pipe or device at {quoted_name(path)}. Choose another name."
        )
    return found.st_mode & 0o777 | 0o600


def _staged_name(parts: Sequence[str], part: UploadPart) -> str:
    """One name for each path, size and upload id: parts of different uploads never mix."""
    key = json.dumps([part.upload, part.size, *parts])
    return f"part-{hashlib.sha256(key.encode()).hexdigest()[:40]}"


def _size(staging: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=staging, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _write(staging: int, name: str, data: bytes, offset: int) -> int:
    """Cut the file to ``offset`` bytes and append ``data``; the new size. So a part that is sent
    again replaces itself and all that followed it."""
    fd = os.open(name, _WRITE, 0o600, dir_fd=staging)
    with os.fdopen(fd, "wb") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(data)
    return offset + len(data)


def _prune(staging: int, *, keep: int) -> None:
    """Remove files older than :data:`KEPT`, and all but the ``keep`` youngest."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=staging)
    try:
        with os.scandir(fd) as scan:
            found = [(entry.stat(follow_symlinks=False).st_mtime, entry.name) for entry in scan]
    finally:
        os.close(fd)
    oldest = time.time() - KEPT
    for younger, (modified, name) in enumerate(sorted(found, reverse=True)):
        if younger >= keep or modified < oldest:
            os.unlink(name, dir_fd=staging)
