"""Keeps the output of one command within bounds.

The head and the tail stay in memory for the model; once there is more, everything from the first
byte goes to a file under the loop's home, up to a limit. So neither memory nor disk grows without
bound with what a command prints.
"""

# ruff: noqa: PTH103, PTH108

from __future__ import annotations

import os

FILES_KEPT = 50
SCANNED = 5_000
"""The most entries of the directory that are read when old files are removed."""


class OutputCapture:
    """Takes bytes, gives bounded text. The file ``path`` exists once something was left out.

    ``limit`` is the size of the text in bytes, ``file_limit`` that of the file.
    """

    def __init__(self, directory: str, name: str, limit: int, file_limit: int) -> None:
        self.path = f"{directory}/{name}"
        self._directory = directory
        self._half = max(limit // 2, 1)
        self._file_limit = file_limit
        self._head = bytearray()
        self._tail = bytearray()
        self._file: int | None = None
        self.total = 0

    @property
    def spilled(self) -> bool:
        return self._file is not None

    @property
    def full(self) -> bool:
        """Whether more has come than the file takes; from then on only the tail is kept."""
        return self.total > self._file_limit

    def spill_to_file(self) -> None:
        """Write what there is, and all that follows, to the file.

        The directory belongs to the agent, which may have made it unusable: then there is no file.
        """
        try:
            self._open()
        except OSError:
            self._file_limit = 0
            return
        self._write(bytes(self._head + self._tail), 0)

    def _open(self) -> None:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        prune_output_files(self._directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self.path, flags, 0o600)

    def append(self, data: bytes) -> None:
        if self._file is None and self._file_limit and self.total + len(data) > 2 * self._half:
            self.spill_to_file()
        if self._file is not None:
            self._write(data, self.total)
        self.total += len(data)
        left = self._half - len(self._head)
        if left > 0:
            self._head += data[:left]
            data = data[left:]
        self._tail += data
        if len(self._tail) > self._half:
            del self._tail[: len(self._tail) - self._half]

    def _write(self, data: bytes, before: int) -> None:
        left = self._file_limit - before
        if self._file is None or left <= 0:
            return
        try:
            os.write(self._file, data[:left])
        except OSError:  # disk full: the command's own writes say so; its head and tail remain
            self._file_limit = 0

    def text(self) -> bytes:
        """Head and tail, and between them what was left out and where it is."""
        missing = self.total - len(self._head) - len(self._tail)
        if missing <= 0:
            return bytes(self._head + self._tail)
        note = f"\n[... {missing} bytes left out{self._file_note()} ...]\n"
        return bytes(self._head) + note.encode() + bytes(self._tail)

    def _file_note(self) -> str:
        if self._file is None:
            return ""
        kept = "" if self.total <= self._file_limit else f", its first {self._file_limit} bytes"
        return f"; the whole output{kept} is in {self.path}"

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _is_output_file(name: str) -> bool:
    """Whether ``name`` is one that :class:`~.commands.Command` gives: ``1a2b3c4d-17.txt``."""
    stem, _, number = name.removesuffix(".txt").partition("-")
    return name.endswith(".txt") and len(stem) == 8 and number.isdigit()


def prune_output_files(directory: str) -> None:
    """Remove the oldest output files, so that a new one makes at most ``FILES_KEPT``."""
    # The directory is the agent's: it may have been replaced, or hold anything. Only files with
    # the names of output files are removed, and only a bounded number of entries is read.
    with os.scandir(directory) as entries:
        seen = (entry for _, entry in zip(range(SCANNED), entries, strict=False))
        files = [e for e in seen if _is_output_file(e.name) and e.is_file(follow_symlinks=False)]
    files.sort(key=lambda e: e.stat(follow_symlinks=False).st_mtime)
    for old in files[: max(0, len(files) - FILES_KEPT + 1)]:
        try:
            os.unlink(old.path)
        except FileNotFoundError:
            continue
