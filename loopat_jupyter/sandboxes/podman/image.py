"""The image that podman sandboxes run: named by the administrator, or built when first needed.

An image that is built is tagged with a hash of what it is built from, so that a new Containerfile
gives a new image. Several loops that need it at once wait for one build. A build that is cancelled
keeps the steps that it has finished.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.sandboxes.podman.cli import (
    BUILD_ENVIRONMENT,
    Podman,
    PodmanFailed,
    last_line,
    podman_environment,
)
from loopat_jupyter.sandboxes.process_tree import descendants
from loopat_jupyter.sandboxes.runtime.settings import PodmanSettings

CONTAINERFILE = Path(__file__).with_name("Containerfile")
BUILD_TIMEOUT = 1800.0
END_TRIES, END_GRACE = 10, 1.0
LINE_MAX = 1 << 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this host, and the environment that it sets for its programs."""

    name: str
    id: str
    env: dict[str, str]


class ImageSource:
    """Finds or builds the tier's image."""

    def __init__(self, podman: Podman, settings: PodmanSettings) -> None:
        self._podman = podman
        self._settings = settings
        self._lock = asyncio.Lock()
        self._found: Image | None = None

    @property
    def name(self) -> str:
        """The image's name. Raises ``SandboxSpawnFailed`` when its Containerfile is not there."""
        if self._settings.image:
            return self._settings.image
        try:
            content = self._containerfile.read_bytes()
        except OSError as error:
            raise SandboxSpawnFailed(
                f"The Containerfile of the sandbox image cannot be read ({error.strerror}). Set "
                "LoopatExtension.podman_containerfile to one that can."
            ) from error
        digest = hashlib.sha256(content + b"\0" + self._settings.base.encode())
        return f"localhost/loopat-sandbox:{digest.hexdigest()[:16]}"

    @property
    def _containerfile(self) -> Path:
        return self._settings.containerfile or CONTAINERFILE

    async def get(self) -> Image:
        """The image; built first where it is missing, which may take minutes.

        Raises ``SandboxSpawnFailed`` with podman's error and what to do.
        """
        async with self._lock:
            if self._found is None:
                name = self.name
                found = await asyncio.to_thread(self.inspect, name)
                if found is None:
                    await self._build_checked(name)
                    found = await asyncio.to_thread(self.inspect, name)
                if found is None:
                    raise SandboxSpawnFailed("podman built the sandbox image and does not find it.")
                self._found = found
            return self._found

    def inspect(self, name: str) -> Image | None:
        """The image, or ``None`` when it is not on this host. Blocks."""
        try:
            self._podman.call("image", "exists", name)
        except PodmanFailed:
            return None
        [found] = json.loads(self._podman.call("image", "inspect", name))
        pairs = (entry.partition("=") for entry in found["Config"].get("Env") or ())
        return Image(name, found["Id"], {key: value for key, _, value in pairs})

    async def _build_checked(self, name: str) -> None:
        if self._settings.image:
            raise SandboxSpawnFailed(
                f"The image {name} is not on this host. Pull or build it as the server's user "
                f"(podman pull {name}), or unset LoopatExtension.podman_image."
            )
        log.warning("Building the sandbox image %s. Loops wait for it; it can take minutes.", name)
        try:
            async with asyncio.timeout(BUILD_TIMEOUT):
                code, output = await self._build(name)
        except TimeoutError:
            code, output = 1, f"it took more than {BUILD_TIMEOUT / 60:.0f} minutes"
        if code:
            raise SandboxSpawnFailed(
                f"The sandbox image could not be built: {last_line(output).rstrip('.')}. "
                "The server's log has podman's whole output. Where no registry can be reached, "
                "name an image that is here with LoopatExtension.podman_image, or a base for it "
                "with LoopatExtension.podman_base."
            )
        log.warning("The sandbox image %s is built.", name)

    async def _build(self, name: str) -> tuple[int, str]:
        """Run the build, with its output to the log; its exit status and its last lines."""
        file = self._containerfile
        arguments = ["--file", str(file), "--tag", name, "--format", "oci"]
        # The steps come from the administrator or this package. With the host's network they need
        # neither slirp4netns nor a tun device.
        arguments.append("--network=host")
        if self._settings.base:
            arguments += ["--build-arg", f"BASE={self._settings.base}"]
        process = await asyncio.create_subprocess_exec(
            *self._podman.argv("build", *arguments, str(file.parent)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=podman_environment(*BUILD_ENVIRONMENT),
            limit=LINE_MAX,
            start_new_session=True,
        )
        assert process.stdout is not None
        output = ""
        try:
            while piece := await process.stdout.read(LINE_MAX):
                text = piece.decode(errors="replace")
                output = (output + text)[-LINE_MAX:]
                for line in text.splitlines():
                    log.info("podman build: %s", line)
            return await process.wait(), output
        finally:
            if process.returncode is None:
                await _stop_build(process)


async def _stop_build(process: asyncio.subprocess.Process) -> None:
    """End a build whose caller was cancelled.

    The step that runs has its own session and would outlive podman: it is killed, and podman then
    cleans up as after any step that failed. podman itself is killed only when it does not.
    """
    for _ in range(END_TRIES):
        if not await asyncio.to_thread(_kill_steps, process.pid):
            process.terminate()
        try:
            async with asyncio.timeout(END_GRACE):
                await process.wait()
                return
        except TimeoutError:
            continue
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _kill_steps(build: int) -> int:
    """Kill the processes below a build that are in another session; their number."""
    found = 0
    for pid in descendants(build):
        try:
            if os.getsid(pid) != build:
                os.kill(pid, signal.SIGKILL)
                found += 1
        except ProcessLookupError:
            continue
    return found
