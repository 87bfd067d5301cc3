"""The containers of one home: created, started, listed and removed. Every call blocks.

Each is named after its loop and its home and labelled with both, so that a server finds the
containers of its own home, and only those, also when an earlier server created them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from loopat_jupyter.sandboxes.podman.cli import Podman, PodmanFailed, find_podman

LABEL = "loopat.home"
LOOP, DIGEST = "loopat.loop", "loopat.arguments"
FOLDER = "podman"
"""Below the run directory. It exists if this home has ever had a container."""

log = logging.getLogger(__name__)


def home_label(run_dir: Path) -> str:
    return hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:12]


class Containers:
    """The containers of the home that ``run_dir`` belongs to."""

    def __init__(self, podman: Podman, run_dir: Path) -> None:
        self._podman = podman
        self._label = home_label(run_dir)
        self._folder = run_dir / FOLDER
        self._known: dict[str, str] = {}

    @property
    def files(self) -> Path:
        """The directory for small files that are mounted into containers."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder

    def name(self, loop_id: str) -> str:
        return f"loopat-{loop_id}-{self._label}"

    def pid_files(self, loop_id: str) -> list[str]:
        """The options by which podman writes the pids of what it started to files."""
        conmon, init = self._pid_paths(loop_id)
        return [f"--conmon-pidfile={conmon}", f"--pidfile={init}"]

    def _pid_paths(self, loop_id: str) -> tuple[Path, Path]:
        return self.files / f"{loop_id}.conmon", self.files / f"{loop_id}.init"

    def ensure_created(self, loop_id: str, digest: str, options: Sequence[str]) -> None:
        """Make sure that there is a container with these options that is not running.

        ``digest`` is a hash of the options; a container with another one is replaced. Raises
        ``PodmanFailed``.
        """
        if self._known.get(loop_id) == digest:
            return
        name = self.name(loop_id)
        if self._digest(name) != digest:
            self.remove(loop_id)
            labels = {LABEL: self._label, LOOP: loop_id, DIGEST: digest}
            given = [f"--label={key}={value}" for key, value in labels.items()]
            self._podman.call("create", f"--name={name}", *given, *options)
        self._known[loop_id] = digest

    def _digest(self, name: str) -> str | None:
        """The digest of a container's options; ``None`` where there is none that is not running."""
        try:
            [found] = json.loads(self._podman.call("container", "inspect", name))
        except PodmanFailed:
            return None
        if found["State"]["Status"] not in ("created", "exited"):
            return None
        digest = found["Config"]["Labels"].get(DIGEST)
        return digest if isinstance(digest, str) else None

    def start(self, loop_id: str, pass_fds: Sequence[int]) -> tuple[int, int]:
        """Start it; the pids of conmon and of the container's first process.

        Raises ``PodmanFailed``.
        """
        paths = self._pid_paths(loop_id)
        for path in paths:
            path.unlink(missing_ok=True)
        self._podman.call("start", self.name(loop_id), pass_fds=pass_fds)
        try:
            conmon, init = (int(path.read_text()) for path in paths)
        except (OSError, ValueError):
            raise PodmanFailed("podman does not say what it started") from None
        return conmon, init

    def remove(self, loop_id: str) -> None:
        """Remove the loop's container, running or not; nothing when there is none."""
        self._known.pop(loop_id, None)
        name = self.name(loop_id)
        try:
            self._remove(name)
        except PodmanFailed:  # its conmon was killed, so podman does not know that it ended
            try:
                self._podman.call("stop", "--time=0", name)
                self._remove(name)
            except PodmanFailed as error:
                log.warning("The container of %s was not removed: %s", loop_id, error.message)
        for path in self._pid_paths(loop_id):
            path.unlink(missing_ok=True)

    def _remove(self, name: str) -> None:
        self._podman.call("rm", "--force", "--ignore", "--time=0", name)

    def loops_with_container(self) -> list[str]:
        """The loops of this home that have a container."""
        return self._list('{{index .Labels "' + LOOP + '"}}')

    def stop_leftovers(self) -> list[str]:
        """Stop the containers that an earlier server left running; their names."""
        running = self._list("{{.Names}}", "--filter=status=running")
        for name in running:
            self._podman.call("stop", "--time=0", name)
            log.warning("Stopped a container that an earlier server left behind (%s).", name)
        return running

    def _list(self, what: str, *filters: str) -> list[str]:
        try:
            output = self._podman.call(
                "ps", "--all", f"--filter=label={LABEL}={self._label}", *filters, f"--format={what}"
            )
        except PodmanFailed as error:
            log.warning("podman does not say which containers there are: %s", error.message)
            return []
        return output.split()


def reap_containers(run_dir: Path) -> list[str]:
    """Stop the containers of this home that an earlier server left running; their names. Blocks.

    Normally there are none: a container ends with its channel, and that with its server. A stopped
    one is kept for its loop. A home that never had a container has no folder for them, and podman
    is not called for it.
    """
    program = find_podman()
    if program is None or not (run_dir / FOLDER).is_dir():
        return []
    try:
        return Containers(Podman(program), run_dir).stop_leftovers()
    except PodmanFailed:
        return []
