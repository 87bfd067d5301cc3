"""The environment of everything that runs in a sandbox that isolates: nothing is inherited."""

from __future__ import annotations

import sys
from pathlib import Path

from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def clean_environment(settings: SandboxSettings, home: str, user: str) -> dict[str, str]:
    """The server's Python first in ``PATH``, then the user's own programs and the system's."""
    prefix = Path(sys.prefix).resolve()
    bins = dict.fromkeys([f"{prefix}/bin", f"{Path(sys.base_prefix).resolve()}/bin"])
    env = {
        "PATH": ":".join([*bins, SYSTEM_PATH]),
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if sys.prefix != sys.base_prefix:
        env["VIRTUAL_ENV"] = str(prefix)
    if settings.user_base is not None:
        env["PATH"] = ":".join([*bins, f"{settings.user_base}/bin", SYSTEM_PATH])
        env["PYTHONUSERBASE"] = str(settings.user_base)
    return env
