"""Making a loop's workdir from one of the home's repositories.

git runs on the host here, on a repository that the administrator put into the home. Whatever that
repository's configuration says, nothing of it is executed: no hooks, no file system monitor, no
filters, no ``ext::`` transport, no helper, no prompt; and none of the server's or user's
configuration. Objects are sent as to another machine: what arrives is whole, checked against its
names, and leans on no other directory of the host.
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
    # No configuration can widen these two.
    "GIT_ALLOW_PROTOCOL": "file",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "GIT_SSH_COMMAND": "/bin/false",
    "LC_ALL": "C.UTF-8",
}
_COMMAND = (
    # Before a repository's own configuration, also in the new one.
    *("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"),
    *("clone", "--quiet", "--no-local", "--no-recurse-submodules", "--template=", "--"),
)


async def clone(source: Path, workdir: Path) -> None:
    """Clone ``source`` into the empty ``workdir``. Raises ``UnknownRepo`` if git cannot."""
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
            _, complaint = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        reason = _reason(complaint.decode(errors="replace"))
        reason = reason.replace(str(source.parent), "repos").replace(str(workdir), "workdir")
        raise UnknownRepo(f"The repo {source.name!r} cannot be cloned: {reason}")


def _reason(said: str) -> str:
    """The line of git's that says what is wrong; what follows it is advice."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal: ")]
    return [*(fatal or lines), "git does not say why"][0].removeprefix("fatal: ")
