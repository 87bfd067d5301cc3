"""The sandbox port: what a tier of sandboxes and the sandboxes it makes promise.

:mod:`loopat_jupyter.sandboxes` implements these protocols and imports nothing else of the domain
than the ports, :mod:`loopat_jupyter.loops.destinations` and :mod:`loopat_jupyter.loops.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .network import Egress, Network


@dataclass(frozen=True, slots=True)
class FolderMount:
    """A folder of the Jupyter server's root that appears at ``workdir/<name>``."""

    source: Path
    name: str
    write: bool


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """Where one loop lives on the host. ``workdir`` and ``home`` exist, owned by the server."""

    loop_id: str
    workdir: Path
    home: Path
    folders: tuple[FolderMount, ...] = ()
    egress: Egress = field(default_factory=Egress)


@dataclass(frozen=True, slots=True)
class SandboxIsolation:
    """What a tier really enforces, in words for people; ``gaps`` is what it does not."""

    tier: str
    isolates: bool
    enforced: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The end of one shell command.

    ``output`` is stdout and stderr as they came, UTF-8 with replacement characters, at most the
    sandbox's output limit (head and tail, with a line between them that says what was left out
    and names ``output_file``). ``output_file`` is a path inside the sandbox that the agent can
    read, or ``None`` when nothing was left out. ``exit_code`` is negative for a signal, and
    ``None`` for a command that was put in the background or timed out.
    """

    exit_code: int | None
    output: str
    timed_out: bool = False
    output_file: str | None = None
    background_pid: int | None = None


class FileError(Exception):
    """A file operation inside the sandbox failed; the message is for the agent."""


class Process(Protocol):
    """A process inside a sandbox, with its streams piped to the server."""

    @property
    def pid(self) -> int: ...
    async def read(self) -> bytes:
        """The next chunk of stdout (with a pty: of everything); ``b""`` at its end."""

    async def read_stderr(self) -> bytes: ...
    async def write(self, data: bytes) -> None:
        """Write to stdin; returns when the sandbox has taken it. Raises ``SandboxLost``."""

    async def close_stdin(self) -> None: ...
    async def resize(self, rows: int, columns: int) -> None: ...
    async def kill(self, signal: int = 9) -> None:
        """Signal the whole process group."""

    async def wait(self) -> int:
        """The exit code, negative for a signal."""


class Sandbox(Protocol):
    """One loop's sandbox: it lives across commands and turns.

    ``workdir`` and ``home`` are paths *inside*. All methods raise
    :class:`~loopat_jupyter.loops.errors.SandboxLost` when the sandbox ends under them.
    Cancelling ``run`` kills the command's process group before the cancellation is delivered.
    """

    @property
    def isolation(self) -> SandboxIsolation: ...
    @property
    def workdir(self) -> str: ...
    @property
    def home(self) -> str: ...
    @property
    def alive(self) -> bool: ...
    @property
    def network(self) -> Network: ...

    async def start(self) -> None:
        """Start it. Raises ``SandboxSpawnFailed`` with a message that helps; leaves nothing."""

    async def run(
        self,
        command: str,
        *,
        timeout: float,
        background: bool = False,
    ) -> CommandResult:
        """Run ``bash -c command`` in the workdir, in a session of its own; ``timeout`` in s.

        Returns when the command itself ends; processes it left in the background live on and do
        not delay the return. ``background``: return at once, output goes to ``output_file``.
        """

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        pty: tuple[int, int] | None = None,
    ) -> Process:
        """Start ``argv`` with piped streams; ``pty`` is ``(rows, columns)``."""

    async def file(self, op: str, /, **args: Any) -> dict[str, Any]:
        """Run one operation of ``sandboxes/inside/file_ops.py``; raises :class:`FileError`."""

    async def stop(self) -> None:
        """End it. When this returns nothing of it is left; idempotent."""

    async def wait_closed(self) -> None:
        """Returns when the sandbox has ended, for whatever reason."""


class SandboxTier(Protocol):
    """A way to make sandboxes on this host."""

    @property
    def isolation(self) -> SandboxIsolation: ...
    def create(self, spec: SandboxSpec) -> Sandbox: ...
    async def retained(self) -> Sequence[str]:
        """The loops of which the tier keeps something between sandboxes."""

    async def remove(self, loop_id: str) -> None:
        """The loop was archived: remove what is kept of it. Its sandbox has been stopped."""

    def close(self) -> None:
        """End whatever the tier keeps running. Blocks; call it off the event loop."""
