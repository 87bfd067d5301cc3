"""Files on their way into a workdir.

They grow in ``loops/<id>/uploads``, which no sandbox sees, so nothing inside can touch them before
they are whole; then they are renamed into their place, which is one step for everybody who looks.
The file there before keeps its permissions and loses its contents: nothing is ever written into a
file that a process inside could have linked elsewhere.

One upload works on a loop at a time (its lock is the caller's); what was begun and never ended is
removed after :data:`KEPT` seconds, and the oldest where there are more than :data:`OPEN`.
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
OPEN = 8

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Uploads:
    """The uploads of one loop. ``owner`` is the user its sandbox runs as where that is not the
    server's own."""

    def __init__(self, loop_dir: Path, owner: int | None) -> None:
        self._workdir = loop_dir / "workdir"
        self._place = loop_dir / "uploads"
        self._owner = -1 if owner is None else owner

    def write_whole(self, parts: Sequence[str], data: bytes) -> os.stat_result:
        """Write a file that came in one piece. Raises ``OSError``, ``InvalidParameter``."""
        with self._open_staging() as place:
            name = f"whole-{uuid.uuid4().hex}"
            try:
                _write(place, name, data, 0)
                return self._commit(place, name, parts)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=place)

    def write_part(
        self, parts: Sequence[str], data: bytes, part: UploadPart
    ) -> tuple[int, os.stat_result | None]:
        """Take a piece; how much there is now, and the file once it is whole."""
        name = _name(parts, part)
        with self._open_staging() as place:
            received = _size(place, name)
            if part.offset > received:
                raise InvalidParameter(
                    f"offset: this upload has {received} of {part.size} bytes. Go on from there."
                )
            if part.offset == 0 and received == 0:
                _prune(place, keep=OPEN - 1)
            received = _write(place, name, data, part.offset)
            if received < part.size:
                return received, None
            return received, self._commit(place, name, parts)

    def remove_loop(self) -> None:
        """Forget what was begun."""
        with suppress(FileNotFoundError), open_root(self._place) as place:
            _prune(place, keep=0)

    @contextmanager
    def _open_staging(self) -> Iterator[int]:
        with suppress(FileExistsError):
            self._place.mkdir(mode=0o700)
        with open_root(self._place) as place:
            yield place

    def _commit(self, place: int, name: str, parts: Sequence[str]) -> os.stat_result:
        """Rename the file that is whole now to where it belongs."""
        path = "/".join(parts)
        with (
            open_root(self._workdir) as top,
            open_directory(top, parts[:-1], make_for=self._owner) as parent,
        ):
            mode = _mode(parent, parts[-1], path)
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            try:
                os.fchown(fd, self._owner, self._owner)
                os.fchmod(fd, mode)
                os.rename(name, parts[-1], src_dir_fd=place, dst_dir_fd=parent)
                return os.fstat(fd)
            finally:
                os.close(fd)


def _mode(parent: int, name: str, path: str) -> int:
    """The permissions of the file to come: those of the one it replaces."""
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


def _name(parts: Sequence[str], part: UploadPart) -> str:
    """Another file, size or id is another upload."""
    key = json.dumps([part.upload, part.size, *parts])
    return f"part-{hashlib.sha256(key.encode()).hexdigest()[:40]}"


def _size(place: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=place, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _write(place: int, name: str, data: bytes, offset: int) -> int:
    """Write ``data`` at ``offset``, which becomes the end; the new size."""
    fd = os.open(name, _WRITE, 0o600, dir_fd=place)
    with os.fdopen(fd, "wb") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(data)
    return offset + len(data)


def _prune(place: int, *, keep: int) -> None:
    """Remove what is too old, and all but the ``keep`` youngest."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
    try:
        with os.scandir(fd) as scan:
            found = [(entry.stat(follow_symlinks=False).st_mtime, entry.name) for entry in scan]
    finally:
        os.close(fd)
    oldest = time.time() - KEPT
    for place_in_age, (modified, name) in enumerate(sorted(found, reverse=True)):
        if place_in_age >= keep or modified < oldest:
            os.unlink(name, dir_fd=place)
