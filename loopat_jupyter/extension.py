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
from typing import Any, cast

from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir
from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, Enum, Float, Int, List, Unicode, default

from .api.auth import ApiTokenService
from .api.handler import ApiContext
from .api.rate_limit import RateLimiter
from .api.routes import handlers
from .context.folders import Folders
from .context.home import Home
from .context.instructions import Instructions
from .engines.builtin.engine import EngineLimits
from .engines.registry import ENGINES, EngineRegistry, SandboxPlacement, select_engines
from .engines.tools.outcome import ToolLimits
from .loops.errors import SandboxSpawnFailed, StoreError
from .loops.event_broadcaster import EventBroadcaster
from .loops.ports.engine import PermissionMode
from .loops.ports.network import AuditEntry
from .loops.ports.sandbox import SandboxTier
from .loops.sandbox_pool import SandboxPool
from .loops.service import LoopService
from .sandboxes.podman.containers import reap_containers
from .sandboxes.registry import select_tier
from .sandboxes.runtime.cgroups import NotDelegated, ServerCgroup, claim, find_delegation
from .sandboxes.runtime.reaper import reap_leftovers
from .sandboxes.runtime.settings import Limits, PodmanSettings, SandboxSettings
from .sandboxes.unavailable import UnavailableTier
from .store import HomeLock, Store
from .store.database import JournalMode
from .workspace.files import WorkspaceFiles

HEARTBEAT = 5.0
"""Seconds between two notes of activity while a turn runs (the Hub's culler reads them). Short, so
that whatever interval a Hub is told the activity at, what it is told is new."""

MODES = ("default", "acceptEdits", "bypassPermissions", "plan", "dontAsk", "auto")


class LoopatExtension(ExtensionApp):
    """AI-agent loops in a Jupyter server."""

    name = "loopat"
    description = "AI-agent loops that live in a Jupyter server"

    home = Unicode(
        help="Where everything is kept. Default: the environment variable LOOPAT_HOME, else "
        "~/.loopat. One server at a time owns a home."
    ).tag(config=True)

    @default("home")
    def _default_home(self) -> str:
        return os.environ.get("LOOPAT_HOME") or str(Path.home() / ".loopat")

    engine = Enum(
        ENGINES, "auto", help="Which engine runs the turns; auto takes the best that is installed."
    ).tag(config=True)

    sandbox = Enum(
        ("auto", "bubblewrap", "landlock", "podman", "none"),
        "auto",
        help="What holds the agent in. auto takes the strongest tier that a probe proves on this "
        "host, and never none; none runs the agent as the server's own user.",
    ).tag(config=True)

    default_permission_mode = Enum(
        ("", *MODES),
        "",
        help="The permission mode of messages that name none. Default: bypassPermissions where "
        "the sandbox isolates, else default.",
    ).tag(config=True)

    ping_interval = Float(15.0, min=0.05, help="Seconds between two pings of a stream.").tag(
        config=True
    )

    sandbox_idle_timeout = Float(
        1800.0,
        min=0.0,
        help="Seconds without turn activity after which a loop's sandbox is stopped. Its files "
        "stay, its background processes end.",
    ).tag(config=True)

    rate_limit = Int(0, min=0, help="Requests per minute and API token; 0 is no limit.").tag(
        config=True
    )

    token_session = Bool(
        False,
        help="Let a Jupyter server token make and revoke API tokens. A program that has the "
        "server token can then give itself a lasting one.",
    ).tag(config=True)

    sandbox_processes = Int(512, min=8, help="Processes of one sandbox.").tag(config=True)
    sandbox_memory = Int(4 << 30, min=64 << 20, help="Bytes of memory of one sandbox.").tag(
        config=True
    )
    sandbox_file_size = Int(2 << 30, min=1 << 20, help="Bytes of one file in a sandbox.").tag(
        config=True
    )
    sandbox_open_files = Int(1024, min=64, help="Open files of one process in a sandbox.").tag(
        config=True
    )
    bash_timeout = Float(120.0, min=1.0, help="Seconds of a Bash call that names no time.").tag(
        config=True
    )
    bash_timeout_max = Float(600.0, min=1.0, help="Seconds a Bash call may ask for.").tag(
        config=True
    )
    tool_output = Int(
        100 << 10, min=1 << 10, help="Bytes of a tool's output that the model sees: head and tail."
    ).tag(config=True)
    tool_output_kept = Int(
        10 << 20, min=0, help="Bytes of a tool's output that are kept in a file for the agent."
    ).tag(config=True)
    sandbox_read_only_paths = List(
        Unicode(), help="More host paths that every sandbox sees, read-only, where they are."
    ).tag(config=True)
    sandbox_cpus = Float(
        0.0,
        min=0.0,
        help="Processors' worth of time of one sandbox, 0 for no limit. Holds where a cgroup does.",
    ).tag(config=True)
    sandbox_cgroup = Unicode(
        "auto",
        help="Where sandboxes get cgroups (version 2) of their own: auto, where the system has "
        "delegated this server's own to it; none; or the path of a directory to make them in.",
    ).tag(config=True)
    podman_image = Unicode(
        help="An image for the sandbox podman that is on this host, used as it is. Empty: one is "
        "built."
    ).tag(config=True)
    podman_containerfile = Unicode(
        help="A Containerfile to build the image of the sandbox podman from. Empty: the package's."
    ).tag(config=True)
    podman_base = Unicode(
        help="The image that the package's Containerfile begins from (its argument BASE)."
    ).tag(config=True)
    sandbox_uid = Int(
        64999, min=1, help="The unprivileged user id of sandboxes where the server runs as root."
    ).tag(config=True)

    max_file_size = Int(
        1 << 30,
        min=1 << 10,
        help="Bytes of one file that goes in or out of a loop's workdir through the API.",
    ).tag(config=True)

    database_journal = Enum(
        ("auto", "wal", "rollback"),
        "auto",
        help="SQLite's journal: wal, or rollback for network file systems; auto looks.",
    ).tag(config=True)

    _loaded = False

    # ------------------------------------------------------------------ loading

    def initialize_settings(self) -> None:
        """Build the object graph. Raises HomeLocked, StoreUnusable: then nothing is loaded."""
        # jupyter_server's own log handler is the place for our modules' warnings.
        logging.getLogger("loopat_jupyter").parent = self.log
        path = Path(self.home).expanduser().absolute()
        private = self._private_paths(path)
        self._lock = HomeLock(path)
        try:
            self._home = Home.open(path, self._folders(private))
            self._lock.acquire()
            reap_leftovers(self._home.run_dir)
            reap_containers(self._home.run_dir)
            engines = self._select_engines()
            journal = cast(JournalMode, self.database_journal)
            self._store = Store(self._home.database, journal=journal)
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

    def sandbox_settings(
        self, run_dir: Path, masks: tuple[Path, ...], **more: Any
    ) -> SandboxSettings:
        """What the traits say about sandboxes; ``more`` are fields that the traits do not know."""
        named = self.podman_containerfile
        return SandboxSettings(
            run_dir=run_dir,
            limits=Limits(
                processes=self.sandbox_processes,
                memory=self.sandbox_memory,
                file_size=self.sandbox_file_size,
                open_files=self.sandbox_open_files,
                cpus=self.sandbox_cpus,
                bash_timeout=self.bash_timeout,
                bash_timeout_max=self.bash_timeout_max,
                output=self.tool_output,
                kept_output=self.tool_output_kept,
            ),
            masks=masks,
            read_only_paths=tuple(Path(path) for path in self.sandbox_read_only_paths),
            sandbox_uid=self.sandbox_uid,
            podman=PodmanSettings(
                image=self.podman_image,
                containerfile=Path(named).expanduser().absolute() if named else None,
                base=self.podman_base,
            ),
            **more,
        )

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
        """Our part of the cgroup tree; without one, other limits hold and the tier says so."""
        try:
            return claim(find_delegation(self.sandbox_cgroup))
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

    def _select_engines(self) -> EngineRegistry:
        tools = ToolLimits(self.bash_timeout, self.bash_timeout_max, self.tool_output)
        return select_engines(
            self.engine,
            self._home.path,
            Instructions(self._home.path),
            EngineLimits(tools=tools),
            self.engine_placement(),
        )

    def engine_placement(self) -> SandboxPlacement:
        """Where the engines' turns run, by the traits."""
        return SandboxPlacement(
            self.sandbox, tuple(Path(path) for path in self.sandbox_read_only_paths)
        )

    def _build_context(self, engines: EngineRegistry, tier: SandboxTier) -> ApiContext:
        isolation = tier.isolation
        keeper = SandboxPool(tier, idle_timeout=self.sandbox_idle_timeout, on_evict=self._on_evict)
        mode: PermissionMode = "bypassPermissions" if isolation.isolates else "default"
        if self.default_permission_mode:
            mode = cast(PermissionMode, self.default_permission_mode)
        broadcaster = EventBroadcaster(self._store.events)
        files = self._files()
        service = LoopService(
            self._store,
            broadcaster,
            engines,
            keeper,
            self._home,
            files,
            default_mode=mode,
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
        self._store.start(self._context.broadcaster.publish)
        self._background = asyncio.get_running_loop().create_task(self._run_background())
        await self._service.start()
        self._context.ready.set()

    async def _run_background(self) -> None:
        """What runs beside the requests; one that fails does not take the others with it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._logged("token watch", self._context.tokens.run_maintenance()))
            group.create_task(self._logged("heartbeat", self._heartbeat()))
            group.create_task(self._logged("warm-up", self._context.engines.prepare()))

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
        await self._context.tokens.flush()
        if self._division is not None:
            await asyncio.to_thread(self._division.release)
        await asyncio.to_thread(self._store.close)
        self._lock.release()


main = LoopatExtension.launch_instance
