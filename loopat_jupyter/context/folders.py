"""Folders of the Jupyter server's root that a loop may see.

A folder is named relative to the root. No symlink is followed in its path, neither when the loop is
created nor when a sandbox starts, so a folder cannot lead out of the root. Hidden folders (unless
the server shows them) and those that are private to loopat or Jupyter are refused too.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..loops.errors import InvalidParameter, SandboxSpawnFailed
from ..loops.models import SharedFolder


@dataclass(frozen=True, slots=True)
class Folders:
    """``private`` are host paths that no loop may see, whatever its folders are."""

    root: Path
    private: tuple[Path, ...] = ()
    allow_hidden: bool = False

    def check(self, folders: Iterable[SharedFolder]) -> None:
        """Raises ``InvalidParameter`` for a folder that cannot be given."""
        names: set[str] = set()
        for folder in folders:
            source = self._resolve(folder)
            if source.name in names:
                raise InvalidParameter(
                    f"folders: two of them would appear as {source.name!r} in the workdir."
                )
            names.add(source.name)

    def locate(self, folders: Iterable[SharedFolder]) -> Iterator[tuple[SharedFolder, Path]]:
        """Each folder with its path on the host. Raises ``SandboxSpawnFailed`` if one is gone."""
        for folder in folders:
            try:
                yield folder, self._resolve(folder)
            except InvalidParameter as error:
                raise SandboxSpawnFailed(
                    f"A folder of this loop cannot be shown to it any more ({error.message}). Put "
                    "it back, or create a new loop."
                ) from error

    def _resolve(self, folder: SharedFolder) -> Path:
        path = folder.path
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts:
            raise InvalidParameter(
                f"folders: {path!r} is not a folder below the server's root directory."
            )
        if not self.allow_hidden and any(part.startswith(".") for part in parts):
            raise InvalidParameter(f"folders: {path!r} is hidden.")
        current = self.root.resolve()
        for part in parts:
            current /= part
            if not _is_plain_directory(current):
                raise InvalidParameter(
                    f"folders: {path!r} does not exist, or is not a plain folder."
                )
        if any(current.is_relative_to(private.resolve()) for private in self.private):
            raise InvalidParameter(f"folders: {path!r} is private to the server.")
        # A mount that masks a private path inside the folder stays in place only while nobody
        # inside can rename a directory above it.
        if folder.write and any(
            private.resolve().is_relative_to(current) for private in self.private
        ):
            raise InvalidParameter(
                f"folders: {path!r} holds private files of the server; give it without write, or "
                "a folder beside them."
            )
        return current


def _is_plain_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (OSError, ValueError):
        return False
