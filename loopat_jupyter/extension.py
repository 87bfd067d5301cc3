"""The server extension: builds one object graph of the settings and hands its routes to Jupyter.

The only module that imports every part. The settings are in :mod:`.config`. A failure while loading
(a home in use by another server, a database that cannot be opened, a setting that is not valid)
keeps this extension from loading, with a message that says what to do, and Jupyter runs without it.
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
from .loops.ports.network import AuditEntry
from .loops.ports.sandbox import SandboxTier
from .loops.sandbox_pool import SandboxPool
from .loops.service import LoopService
from .sandboxes.registry import reap_sandboxes, select_tier
from .sandboxes.runtime.cgroups import NotDelegated, ServerCgroup, claim, find_delegation
from .sandboxes.unavailable import UnavailableTier
from .store import HomeLock, Store
from .workspace.files import WorkspaceFiles

ACTIVITY_INTERVAL = 5.0
"""Seconds between two updates of the server's last activity while a turn runs. A Hub's culler ends
servers by it, and asks at an interval of its own: this is shorter than any sensible one."""


class LoopatExtension(ServerConfig, EngineConfig, ExtensionApp):
    """AI-agent loops in a Jupyter server."""

    name = "loopat"
    description = "AI-agent loops that live in a Jupyter server"

    _loaded = False

    # ------------------------------------------------------------------ loading

    def initialize_settings(self) -> None:
        """Build the object graph.

        Raises:
            TraitError: a setting is not valid.
            HomeLocked, StoreUnusable, EngineUnavailable, OSError: the home, its database or the
                configured engine cannot be used. The home's lock is released again.
        """
        # Log records of this package go to the handlers that jupyter_server has configured.
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
        self._context = self._build_context(engines, self._select_tier(private))
        self._service = self._context.service
        self.settings["loopat_api_context"] = self._context
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
        """Host paths that every sandbox masks. An agent that could read Jupyter's runtime directory
        would find the server's token there, and could answer its own permission prompts."""
        assert self.serverapp is not None
        directories = (
            self.serverapp.runtime_dir,
            self.serverapp.config_dir,
            self.serverapp.data_dir,
            jupyter_config_dir(),
            jupyter_data_dir(),
        )
        for directory in directories:  # only what exists can be masked, and it may be made later
            with contextlib.suppress(OSError):
                Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        return tuple(dict.fromkeys((home, *(Path(path).absolute() for path in directories))))

    def _select_tier(self, private: tuple[Path, ...]) -> SandboxTier:
        self._division = self._divide_cgroup()
        settings = self.sandbox_settings(
            self._home.run_dir, private, cgroup=self._division, audit=self._audit
        )
        try:
            return select_tier(self.sandbox, settings)
        except SandboxSpawnFailed as error:
            self.log.warning("loopat has no sandbox, so no turn can run: %s", error.message)
            return UnavailableTier(error.message)

    def _divide_cgroup(self) -> ServerCgroup | None:
        """The cgroup subtree for sandboxes; ``None`` where the server has none, and the tier's
        ``gaps`` then say which limits do not hold."""
        try:
            return claim(find_delegation(self.sandbox_cgroup))
        except NotDelegated as error:
            level = logging.DEBUG if self.sandbox_cgroup in ("auto", "none") else logging.WARNING
            self.log.log(level, "loopat limits sandboxes without cgroups: %s", error)
            return None

    async def _audit(self, request: AuditEntry) -> None:
        """Store a line of a loop's network audit. A failure is logged, and the request goes on."""
        try:
            await self._store.audit.record(request)
        except StoreError as error:
            self.log.warning("loopat could not keep a line of the network audit: %s", error)

    def _build_context(self, engines: EngineRegistry, tier: SandboxTier) -> ApiContext:
        isolation = tier.isolation
        pool = SandboxPool(tier, idle_timeout=self.sandbox_idle_timeout, on_evict=self._on_evict)
        broadcaster = EventBroadcaster(self._store.events)
        files = self._files()
        service = LoopService(
            self._store,
            broadcaster,
            engines,
            pool,
            self._home,
            files,
            default_mode=self.permission_mode(isolation),
            on_activity=self._touch,
        )
        return ApiContext(
            service=service,
            store=self._store,
            broadcaster=broadcaster,
            files=files,
            engines=engines,
            isolation=isolation,
            tokens=ApiTokenService(self._store.tokens),
            limiter=RateLimiter(self.rate_limit),
            ping_interval=self.ping_interval,
            token_session=self.token_session,
            ready=asyncio.Event(),
        )

    def _files(self) -> WorkspaceFiles:
        """The files API. Sandboxes of a root server run as ``sandbox_uid``, so uploads get that
        owner, except in the tier ``none``, which runs as root."""
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
        if not self._loaded:  # jupyter_server calls this also where loading failed
            return
        self._store.start(self._context.broadcaster.publish)
        self._background = asyncio.get_running_loop().create_task(self._run_background())
        await self._service.start()
        self._context.ready.set()

    async def _run_background(self) -> None:
        """The tasks that run beside requests; one that fails does not cancel the others."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._logged("token watch", self._context.tokens.run_maintenance()))
            group.create_task(self._logged("heartbeat", self._report_activity()))
            group.create_task(self._logged("warm-up", self._context.engines.prepare()))

    async def _logged(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            self.log.exception("loopat's %s ended; restart the server to have it again", name)

    async def _report_activity(self) -> None:
        """Count running turns as activity: they may send no requests for longer than a culler's
        timeout."""
        while True:
            await asyncio.sleep(ACTIVITY_INTERVAL)
            if self._service.running:
                self._touch()

    def _touch(self) -> None:
        assert self.serverapp is not None
        self.serverapp.web_app.settings["loopat_last_activity"] = datetime.now(UTC)

    def current_activity(self) -> dict[str, int] | None:
        """The running turns; while there are any, jupyter_server does not shut down when idle."""
        running = self._service.running
        return {"loopat_turns": running} if running else None

    async def stop_extension(self) -> None:
        """Stop turns, sandboxes and background tasks, and close the store. Nothing stored is lost,
        and no sandbox is left when it returns."""
        if not self._loaded:
            return
        self._background.cancel()
        await asyncio.wait([self._background])
        await self._service.close()
        await self._context.tokens.flush()
        if self._division is not None:
            await asyncio.to_thread(self._division.release)
        await asyncio.to_thread(self._store.close)
        self._lock.release()


main = LoopatExtension.launch_instance
