"""The server extension: traits -> one object graph -> routes. The only module that knows everybody.

Loading never harms the rest of Jupyter: a home in use by another server or a database that cannot
be used stops this extension alone, with a message that says what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir
from jupyter_server.extension.application import ExtensionApp
from traitlets import TraitError

from .api.auth import ApiTokenService
from .api.handler import ApiContext
from .api.rate_limit import RateLimiter
from .api.routes import handlers
from .config import EngineConfig, ServerConfig
from .context.folders import Folders
from .context.home import Home
from .engines.registry import EngineRegistry, select_engines
from .loops.errors import SandboxSpawnFailed, StoreError
from .loops.event_broadcaster import EventBroadcaster
from .loops.ports.engine import SandboxIsolation, SandboxTier
from .loops.ports.network import AuditEntry
from .loops.sandbox_pool import SandboxPool
from .loops.service import LoopService
from .sandboxes.registry import reap_sandboxes, select_tier
from .sandboxes.runtime.cgroups import Division, NotDelegated, claim, find
from .store import HomeLock, Store
from .workspace.files import WorkspaceFiles

HEARTBEAT = 5.0
"""Seconds between two notes of activity while a turn runs (the Hub's culler reads them). Short, so
that whatever interval a Hub is told the activity at, what it is told is new."""


class LoopatExtension(ServerConfig, EngineConfig, ExtensionApp):
    """AI-agent loops in a Jupyter server."""

    name = "loopat"
    description = "AI-agent loops that live in a Jupyter server"

    _loaded = False

    # ------------------------------------------------------------------ loading

    def initialize_settings(self) -> None:
        """Build the object graph. Raises HomeLocked, StoreUnusable: then nothing is loaded."""
        # jupyter_server's own log handler is the place for our modules' warnings.
        logging.getLogger("loopat_jupyter").parent = self.log
        if not self._linked:
            # jupyter_server logs a setting that it could not apply and loads the extension all the
            # same: the defaults would serve, with a tier or a mode that nobody asked for.
            raise TraitError("loopat is not available: one of its settings is not valid, see above")
        path = Path(self.home).expanduser().absolute()
        private = self._private_paths(path)
        self._lock = HomeLock(path)
        try:
            self._home = Home.open(path, self._folders(private))
            self._lock.acquire()
            reap_sandboxes(self._home.run_dir)
            engines = select_engines(self.engine, self.engine_setup(self._home.path))
            self._store = Store(self._home.database, journal=self.journal_mode())
        except Exception as error:
            self._lock.release()
            self.log.error("loopat is not available: %s", error)  # noqa: TRY400
            raise
        self._service = self._build_service(engines, self._select_tier(private))
        self._tokens = ApiTokenService(self._store.tokens)
        self._ready = asyncio.Event()
        self.settings["loopat_edge"] = ApiContext(
            service=self._service,
            tokens=self._tokens,
            limiter=RateLimiter(self.rate_limit),
            ping_interval=self.ping_interval,
            token_session=self.token_session,
            ready=self._ready,
        )
        self._touch()
        self._loaded = True

    def initialize_handlers(self) -> None:
        self.handlers.extend(handlers())

    def _folders(self, private: tuple[Path, ...]) -> Folders:
        assert self.serverapp is not None
        contents = self.serverapp.contents_manager
        return Folders(
            Path(self.serverapp.root_dir), private, bool(getattr(contents, "allow_hidden", False))
        )

    def _private_paths(self, home: Path) -> tuple[Path, ...]:
        """What no sandbox may see, wherever it lies: an agent that reads the runtime directory
        finds the server's token there and could answer its own prompts."""
        assert self.serverapp is not None
        places = (
            self.serverapp.runtime_dir,
            self.serverapp.config_dir,
            self.serverapp.data_dir,
            jupyter_config_dir(),
            jupyter_data_dir(),
        )
        for place in places:  # what is not there yet could not be covered, and might come later
            with contextlib.suppress(OSError):
                Path(place).mkdir(mode=0o700, parents=True, exist_ok=True)
        return tuple(dict.fromkeys((home, *(Path(place).absolute() for place in places))))

    def _select_tier(self, private: tuple[Path, ...]) -> SandboxTier | SandboxSpawnFailed:
        self._division = self._divide_cgroup()
        settings = self.sandbox_settings(
            self._home.run_dir, private, cgroup=self._division, audit=self._audit
        )
        try:
            return select_tier(self.sandbox, settings)
        except SandboxSpawnFailed as error:
            self.log.warning("loopat has no sandbox, so no turn can run: %s", error.message)
            return error

    def _divide_cgroup(self) -> Division | None:
        """Our part of the cgroup tree; without one, other limits hold and the tier says so."""
        try:
            return claim(find(self.sandbox_cgroup))
        except NotDelegated as error:
            level = logging.DEBUG if self.sandbox_cgroup in ("auto", "none") else logging.WARNING
            self.log.log(level, "loopat limits sandboxes without cgroups: %s", error)
            return None

    async def _audit(self, request: AuditEntry) -> None:
        """A line of a loop's audit. A store that cannot keep it is no reason to stop the loop."""
        try:
            await self._store.audit.record(request)
        except StoreError as error:
            self.log.warning("loopat could not keep a line of the network audit: %s", error)

    def _build_service(
        self, engines: EngineRegistry, tier: SandboxTier | SandboxSpawnFailed
    ) -> LoopService:
        if isinstance(tier, SandboxSpawnFailed):
            isolation = SandboxIsolation(tier="unavailable", isolates=False, gaps=(tier.message,))
        else:
            isolation = tier.isolation
        keeper = SandboxPool(tier, idle_timeout=self.sandbox_idle_timeout, on_evict=self._on_evict)
        return LoopService(
            self._store,
            EventBroadcaster(self._store.events),
            engines,
            keeper,
            self._home,
            self._files(),
            isolation=isolation,
            default_mode=self.permission_mode(isolation),
            on_activity=self._touch,
        )

    def _files(self) -> WorkspaceFiles:
        """A root server's sandboxes run as another user, who must be able to use what is put."""
        drops = os.geteuid() == 0 and self.sandbox != "none"
        return WorkspaceFiles(
            self._home.loop_dir,
            max_size=self.max_file_size,
            owner=self.sandbox_uid if drops else None,
        )

    async def _on_evict(self, loop_id: str) -> None:
        await self._service.sandbox_evicted(loop_id)

    # ------------------------------------------------------------------ running

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        if not self._loaded:  # jupyter_server calls this whatever came of the loading
            return
        self._store.start(self._service.log.publish)
        self._background = asyncio.get_running_loop().create_task(self._run_background())
        await self._service.start()
        self._ready.set()

    async def _run_background(self) -> None:
        """What runs beside the requests; one that fails does not take the others with it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._logged("token watch", self._tokens.watch()))
            group.create_task(self._logged("heartbeat", self._heartbeat()))
            group.create_task(self._logged("warm-up", self._service.engines.prepare()))

    async def _logged(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            self.log.exception("loopat's %s ended; restart the server to have it again", name)

    async def _heartbeat(self) -> None:
        """A turn that works in silence is activity too, or a culler would end it."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            if self._service.running:
                self._touch()

    def _touch(self) -> None:
        assert self.serverapp is not None
        self.serverapp.web_app.settings["loopat_last_activity"] = datetime.now(UTC)

    def current_activity(self) -> dict[str, int] | None:
        """What keeps the server from shutting itself down: the turns that run."""
        running = self._service.running
        return {"loopat_turns": running} if running else None

    async def stop_extension(self) -> None:
        """End what runs, keep what is stored. When it returns no sandbox is left."""
        if not self._loaded:
            return
        self._background.cancel()
        await asyncio.wait([self._background])
        await self._service.close()
        await self._tokens.flush()
        if self._division is not None:
            await asyncio.to_thread(self._division.release)
        await asyncio.to_thread(self._store.close)
        self._lock.release()


main = LoopatExtension.launch_instance
