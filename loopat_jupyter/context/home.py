"""The home of a server's loops, and what a loop is made with.

Layout of ``$LOOPAT_HOME`` (mode 0700)::

    config.json     providers and models, written by people, never by the server
    loopat.db       everything that must survive
    lock            who owns the home
    loops/<id>/     workdir/ and home/ of each loop; all that its sandbox sees of this home;
                    uploads/ of what is being put into the workdir
    profiles/<name> configuration bundles: AGENTS.md goes into the agent's instructions
    vaults/<name>   credential bundles, read by the server alone
    repos/<name>    git repositories that a loop can start from
    run/            records of living sandboxes, for the reaper

A profile or vault named like the user is that user's default; else the one named ``default`` is.
Nothing here is on the event loop: file work runs in a thread.
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
DEFAULT = "default"
_OURS = {"config.json", "lock", "loopat.db", "loops", "profiles", "repos", "run", "vaults"}


@dataclass(frozen=True, slots=True)
class Home:
    """Implements :class:`~loopat_jupyter.loops.service.LoopHome` on the file system."""

    path: Path
    folders: Folders
    config: ConfigFile

    @classmethod
    def open(cls, path: Path, folders: Folders) -> Home:
        """Make the directories that are not there yet, for their owner alone."""
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

    def profile_names(self) -> list[str]:
        return _names(self.path / "profiles")

    # ------------------------------------------------------------------ making a loop

    async def prepare_loop(self, draft: NewLoop) -> PreparedLoop:
        """Check the draft's names and make its directories; a failure leaves nothing behind.

        Raises:
            UnknownProfile, UnknownVault, UnknownRepo, InvalidParameter: what the draft names is
                not there.
        """
        prepared = await asyncio.to_thread(self._check, draft)
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
        """Remove a loop that was not created after all."""
        await asyncio.to_thread(shutil.rmtree, self.loop_dir(loop_id), ignore_errors=True)

    def _check(self, draft: NewLoop) -> PreparedLoop:
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
        for name in (owner, DEFAULT):
            if _exists(self.path / "profiles", name):
                return (name,)
        return ()

    # ------------------------------------------------------------------ a loop's places

    async def spec(self, loop: LoopRecord) -> SandboxSpec:
        """Where the loop lives, and what it may reach.

        Raises:
            SandboxSpawnFailed: a folder of it is gone.
            ConfigError: a profile's ``network.json`` is broken.
        """
        return await asyncio.to_thread(self._locate, loop)

    def host_path_aliases(self, loop: LoopRecord) -> dict[str, str]:
        """Paths of this host that a loop may have seen, and what to call them elsewhere."""
        own = self.loop_dir(loop.loop_id)
        named = {
            own / "workdir": "/workdir",
            own / "home": "/home/loop",
            self.path: "$LOOPAT_HOME",
            self.folders.root: ".",
            Path.home(): "~",
        }
        both = {str(path.resolve()): name for path, name in named.items()}
        return both | {str(path): name for path, name in named.items()}

    def _locate(self, loop: LoopRecord) -> SandboxSpec:
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
    """Shut others out of a home that somebody made with a wider mode.

    Only one that holds nothing but what is ours: a folder that is also something else is left as
    it is, and what is private in it is still in folders and files of mode 0700 and 0600.
    """
    status = path.stat()
    if status.st_mode & 0o077 == 0 or status.st_uid != os.geteuid():
        return
    if all(entry.name.partition("-")[0] in _OURS for entry in path.iterdir()):
        path.chmod(0o700)


def _make_directories(directory: Path) -> None:
    for name in ("workdir", "home"):
        (directory / name).mkdir(mode=0o700, parents=True)


def _exists(parent: Path, name: str) -> bool:
    return _NAME.fullmatch(name) is not None and (parent / name).is_dir()


def _names(parent: Path) -> list[str]:
    if not parent.is_dir():
        return []
    return sorted(entry.name for entry in parent.iterdir() if _exists(parent, entry.name))
