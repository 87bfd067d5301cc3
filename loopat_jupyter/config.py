"""The settings of sandboxes and engines, and the objects that are made of them.

The classes here are bases of :class:`~loopat_jupyter.extension.LoopatExtension`, so that every
setting has one spelling, ``LoopatExtension.NAME``, on the command line and in Jupyter's
configuration files. They are no ``Configurable`` of their own: that would give each setting a
second section. docs/configuration.md documents each one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from traitlets import Bool, Enum, Float, HasTraits, Int, List, TraitError, Unicode, default

from .context.instructions import Instructions
from .engines.plugin import EngineSetup, engine_names
from .engines.tools.outcome import ToolLimits
from .loops.ports.engine import PermissionMode
from .loops.ports.sandbox import SandboxIsolation
from .sandboxes.registry import tier_names
from .sandboxes.runtime.settings import Limits, PodmanSettings, SandboxSettings
from .store.database import JournalMode

MODES = ("default", "acceptEdits", "bypassPermissions", "plan", "dontAsk", "auto")


class PluginName(Unicode[str, str | bytes]):
    """``auto``, or the name of an entry point that is installed; ``names`` lists both."""

    def __init__(self, what: str, names: Callable[[], list[str]], **options: Any) -> None:
        super().__init__("auto", **options)
        self._what = what
        self._names = names

    def validate(self, obj: Any, value: Any) -> str:
        name = super().validate(obj, value)
        if name != "auto" and name not in (known := self._names()):
            raise TraitError(
                f"LoopatExtension.{self.name}: there is no {self._what} {name!r}. "
                f"Installed: {', '.join(known)}."
            )
        return name


class SandboxConfig(HasTraits):
    """What isolates an agent, and how much it may use."""

    sandbox = PluginName(
        "sandbox",
        tier_names,
        help="What isolates the agent: auto, bubblewrap, landlock, podman, none, or a tier that "
        "another distribution brings. auto takes the strongest tier of this package that a probe "
        "proves on this host, and never none; none runs the agent as the server's own user.",
    ).tag(config=True)
    sandbox_idle_timeout = Float(
        1800.0,
        min=0.0,
        help="Seconds without turn activity after which a loop's sandbox is stopped. Its files "
        "stay, its background processes end.",
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
        help="Processors' worth of time of one sandbox, 0 for no limit. Needs a cgroup.",
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

    def sandbox_settings(
        self, run_dir: Path, masks: tuple[Path, ...], **more: Any
    ) -> SandboxSettings:
        """The settings of every tier. ``masks`` are paths that no sandbox may see; ``more`` are
        fields of :class:`SandboxSettings` that no trait sets."""
        containerfile = self.podman_containerfile
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
            read_only_paths=self._read_only_paths(),
            sandbox_uid=self.sandbox_uid,
            podman=PodmanSettings(
                image=self.podman_image,
                containerfile=Path(containerfile).expanduser().absolute()
                if containerfile
                else None,
                base=self.podman_base,
            ),
            **more,
        )

    def _read_only_paths(self) -> tuple[Path, ...]:
        return tuple(Path(path) for path in self.sandbox_read_only_paths)


class EngineConfig(SandboxConfig):
    """Which engine runs the turns. Engines run their tools in sandboxes, within their limits."""

    engine = PluginName(
        "engine",
        engine_names,
        help="Which engine runs the turns: auto, builtin, claude, acp, or one that another "
        "distribution brings. auto takes the best of this package's that is installed.",
    ).tag(config=True)

    default_permission_mode = Enum(
        ("", *MODES),
        "",
        help="The permission mode of messages that name none. Default: bypassPermissions where "
        "the sandbox isolates, else default.",
    ).tag(config=True)

    def permission_mode(self, isolation: SandboxIsolation) -> PermissionMode:
        """The mode of messages that name none, in sandboxes with this isolation."""
        if self.default_permission_mode:
            return cast(PermissionMode, self.default_permission_mode)
        return "bypassPermissions" if isolation.isolates else "default"

    def engine_setup(self, home: Path) -> EngineSetup:
        """What every engine is made with."""
        return EngineSetup(
            home=home,
            instructions=Instructions(home),
            tools=ToolLimits(self.bash_timeout, self.bash_timeout_max, self.tool_output),
            sandbox=self.sandbox,
            read_only_paths=self._read_only_paths(),
        )


class ServerConfig(HasTraits):
    """Where everything is kept, and how the API behaves."""

    home = Unicode(
        help="Where everything is kept. Default: the environment variable LOOPAT_HOME, else "
        "~/.loopat. One server at a time owns a home."
    ).tag(config=True)

    @default("home")
    def _default_home(self) -> str:
        return os.environ.get("LOOPAT_HOME") or str(Path.home() / ".loopat")

    ping_interval = Float(15.0, min=0.05, help="Seconds between two pings of a stream.").tag(
        config=True
    )
    rate_limit = Int(0, min=0, help="Requests per minute and API token; 0 is no limit.").tag(
        config=True
    )
    token_session = Bool(
        False,
        help="Let a Jupyter server token make and revoke API tokens. A program that has the "
        "server token can then give itself a lasting one.",
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

    def journal_mode(self) -> JournalMode:
        return cast(JournalMode, self.database_journal)
