"""The environment of what runs in a sandbox: nothing of the server's own is inherited."""

from __future__ import annotations

import sys
from pathlib import Path

from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base_environment(path: str, home: str, user: str) -> dict[str, str]:
    """What every tier sets. ``path`` is the value of ``PATH``."""
    return {
        "PATH": path,
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


def clean_environment(settings: SandboxSettings, home: str, user: str) -> dict[str, str]:
    """The environment of a tier that isolates and shows the host's system.

    ``PATH`` has the server's Python first, then the user's own programs and the system's.
    """
    prefix = Path(sys.prefix).resolve()
    bins = dict.fromkeys([f"{prefix}/bin", f"{Path(sys.base_prefix).resolve()}/bin"])
    own = [f"{settings.user_base}/bin"] if settings.user_base is not None else []
    env = base_environment(":".join([*bins, *own, SYSTEM_PATH]), home, user)
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    if sys.prefix != sys.base_prefix:
        env["VIRTUAL_ENV"] = str(prefix)
    if settings.user_base is not None:
        env["PYTHONUSERBASE"] = str(settings.user_base)
    return env
