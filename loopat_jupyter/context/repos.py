"""Cloning one of the home's repositories into a loop's workdir.

git runs on the host, outside of any sandbox, on a repository that the administrator put into the
home and that may be somebody else's. Nothing that it configures is executed: no hooks, no file
system monitor, no filters, no ``ext::`` transport, no helper, no prompt. The server's and the
user's own git configuration is not read. Objects go through git's transport as to another machine
(``--no-local``): they are complete, checked against their hashes, and refer to no other directory.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ..loops.errors import UnknownRepo

TIMEOUT = 600.0
"""Seconds for a clone."""

CONFIGURATION = Path(__file__).with_name("gitconfig")
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": str(CONFIGURATION),
    "GIT_ATTR_NOSYSTEM": "1",
    # The environment outranks every configuration file, so no repository can widen these two.
    "GIT_ALLOW_PROTOCOL": "file",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_SSH_COMMAND": "/bin/false",
    "LC_ALL": "C.UTF-8",
}
_COMMAND = (
    # -c outranks the configuration of the source repository and of the clone.
    *("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"),
    *("clone", "--quiet", "--no-local", "--no-recurse-submodules", "--template=", "--"),
)


async def clone(source: Path, workdir: Path) -> None:
    """Clone ``source`` into the empty directory ``workdir``.

    Raises:
        UnknownRepo: git is not installed, or failed; the message holds its reason, and no path of
            the host.
        TimeoutError: it took longer than :data:`TIMEOUT`.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(workdir.parent),
        **_ENVIRONMENT,
    }
    try:
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
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
            _, stderr = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        reason = _error_line(stderr.decode(errors="replace"))
        reason = reason.replace(str(source.parent), "repos").replace(str(workdir), "workdir")
        raise UnknownRepo(f"The repo {source.name!r} cannot be cloned: {reason}")


def _error_line(stderr: str) -> str:
    """The line of git's output with the error; the lines after it are advice."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal: ")]
    return [*(fatal or lines), "git does not say why"][0].removeprefix("fatal: ")
