"""Making a loop's workdir from one of the home's repositories.

git runs on the host here, on a repository that the administrator put into the home. Whatever that
repository's configuration says, nothing of it is executed: no hooks, no file system monitor, no
filters, no ``ext::`` transport, no prompt, and none of the server's or user's configuration.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ..loops.errors import UnknownRepo

TIMEOUT = 600.0
"""Seconds for a clone."""

_SAFE = (
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.symlinks=true",
    "-c", "protocol.allow=never",
    "-c", "protocol.file.allow=always",
    "-c", "safe.directory=*",
    "-c", "submodule.recurse=false",
)  # fmt: skip


async def clone(source: Path, workdir: Path) -> None:
    """Clone ``source`` into the empty ``workdir``. Raises ``UnknownRepo`` if git cannot."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(workdir.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            *_SAFE,
            "clone",
            "--quiet",
            "--no-hardlinks",
            "--template=",
            "--",
            str(source),
            str(workdir),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise UnknownRepo("A repo needs git, and the server has none. Install git.") from error
    try:
        async with asyncio.timeout(TIMEOUT):
            _, complaint = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        reason = last.replace(str(source.parent), "repos").replace(str(workdir), "workdir")
        raise UnknownRepo(f"The repo {source.name!r} cannot be cloned: {reason}")
