"""The directory that holds everything of a server's loops, and how a loop is made in it.

Layout of ``$LOOPAT_HOME`` (mode 0700)::

    config.json     providers and models, written by people, never by the server
    loopat.db       the database: loops, turns, events, tokens
    lock            held by the server that owns the home
    loops/<id>/     workdir/ and home/ of each loop, all that its sandbox sees of this home;
                    uploads/ holds files that are not yet whole
    profiles/<name> configuration bundles: AGENTS.md goes into the agent's instructions
    vaults/<name>   credential bundles, read by the server alone
    repos/<name>    git repositories that a loop's workdir can be cloned from
    run/            records of living sandboxes, for the reaper

A profile or vault named like the user is that user's default; else the one named ``default`` is.
File I/O of the async methods runs in a thread.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..loops.errors import UnknownProfile, UnknownRepo, UnknownVault
from ..loops.models import LoopRecord
from ..loops.ports.sandbox import FolderMount, SandboxSpec
from ..loops.service import NewLoop, PreparedLoop
from .config_file import ConfigFile
from .egress_policy import loop_egress
from .folders import Folders
from .repos import clone
from .vaults import DEFAULT_VAULT, Vaults

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
DEFAULT_PROFILE = "default"
_ENTRIES = {"config.json", "lock", "loopat.db", "loops", "profiles", "repos", "run", "vaults"}


@dataclass(frozen=True, slots=True)
class Home:
    """Implements :class:`~loopat_jupyter.loops.service.LoopHome` on the file system."""

    path: Path
    folders: Folders
    config: ConfigFile

    @classmethod
    def open(cls, path: Path, folders: Folders) -> Home:
        """Make the directories that are missing, with mode 0700. Raises ``OSError``."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(path)
        for name in ("loops", "profiles", "vaults", "repos", "run"):
            (path / name).mkdir(mode=0o700, exist_ok=True)
        return cls(path, folders, ConfigFile(path))

    @property
    def database(self) -> Path:
        return self.path / "loopat.db"

    @property
    def run_dir(self) -> Path:
        return self.path / "run"

    def loop_dir(self, loop_id: str) -> Path:
        return self.path / "loops" / loop_id

    # ------------------------------------------------------------------ making a loop

    async def prepare_loop(self, draft: NewLoop) -> PreparedLoop:
        """Check the draft's names and make its directories; a failure leaves nothing behind.

        Raises:
            UnknownProfile, UnknownVault, UnknownRepo: the draft names one that does not exist.
            InvalidParameter: a folder of it cannot be given.
        """
        prepared = await asyncio.to_thread(self._resolve_draft, draft)
        directory = self.loop_dir(draft.loop_id)
        try:
            await asyncio.to_thread(_make_directories, directory)
            if draft.repo is not None:
                await clone(self.path / "repos" / draft.repo, directory / "workdir")
        except BaseException:
            await asyncio.shield(self.remove_loop(draft.loop_id))
            raise
        return prepared

    async def remove_loop(self, loop_id: str) -> None:
        """Remove the directories of a loop whose creation failed."""
        await asyncio.to_thread(shutil.rmtree, self.loop_dir(loop_id), ignore_errors=True)

    def _resolve_draft(self, draft: NewLoop) -> PreparedLoop:
        profiles = draft.profiles
        if profiles is None:
            profiles = self._default_profiles(draft.owner)
        for name in profiles:
            if not _exists(self.path / "profiles", name):
                raise UnknownProfile(f"There is no profile {name!r}.")
        vaults = Vaults(self.path)
        vault = draft.vault
        if vault is None:
            vault = draft.owner if vaults.exists(draft.owner) else DEFAULT_VAULT
        if not vaults.exists(vault):
            raise UnknownVault(f"There is no vault {vault!r}.")
        if draft.repo is not None and not _exists(self.path / "repos", draft.repo):
            raise UnknownRepo(f"There is no repo {draft.repo!r}.")
        self.folders.check(draft.folders)
        return PreparedLoop(profiles, vault, draft.folders)

    def _default_profiles(self, owner: str) -> tuple[str, ...]:
        for name in (owner, DEFAULT_PROFILE):
            if _exists(self.path / "profiles", name):
                return (name,)
        return ()

    # ------------------------------------------------------------------ a loop's directories

    async def spec(self, loop: LoopRecord) -> SandboxSpec:
        """The loop's directories on the host, its folders, and what it may reach.

        Raises:
            SandboxSpawnFailed: a folder of it is gone.
            ConfigError: a profile's ``network.json`` is broken.
        """
        return await asyncio.to_thread(self._sandbox_spec, loop)

    def host_path_aliases(self, loop: LoopRecord) -> dict[str, str]:
        """Host paths that a loop's texts may hold, and what transcripts write in their place."""
        directory = self.loop_dir(loop.loop_id)
        aliases = {
            directory / "workdir": "/workdir",
            directory / "home": "/home/loop",
            self.path: "$LOOPAT_HOME",
            self.folders.root: ".",
            Path.home(): "~",
        }
        resolved = {str(path.resolve()): alias for path, alias in aliases.items()}
        return resolved | {str(path): alias for path, alias in aliases.items()}

    def _sandbox_spec(self, loop: LoopRecord) -> SandboxSpec:
        directory = self.loop_dir(loop.loop_id)
        mounts = tuple(
            FolderMount(source, folder.path.rstrip("/").rpartition("/")[2], folder.write)
            for folder, source in self.folders.locate(loop.folders)
        )
        egress = loop_egress(self.path, loop.profiles, self._presets)
        return SandboxSpec(loop.loop_id, directory / "workdir", directory / "home", mounts, egress)

    def _presets(self) -> Mapping[str, Sequence[str]]:
        return self.config.read().network.presets


def _make_private(path: Path) -> None:
    """Take the permissions of others from a home that was made with a wider mode.

    Only where it holds nothing but entries of a home: a directory with another use is left as it
    is. What is private in it is in directories and files of mode 0700 and 0600 all the same.
    """
    status = path.stat()
    if status.st_mode & 0o077 == 0 or status.st_uid != os.geteuid():
        return
    if all(entry.name.partition("-")[0] in _ENTRIES for entry in path.iterdir()):
        path.chmod(0o700)


def _make_directories(directory: Path) -> None:
    for name in ("workdir", "home"):
        (directory / name).mkdir(mode=0o700, parents=True)


def _exists(parent: Path, name: str) -> bool:
    return _NAME.fullmatch(name) is not None and (parent / name).is_dir()
