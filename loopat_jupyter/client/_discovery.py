"""Finding the server from inside a kernel, or from a terminal on the same machine.

The first of these that is set is used, even if the server then does not respond:

1. ``LOOPAT_URL`` and ``LOOPAT_TOKEN``
2. under a JupyterHub: ``JUPYTERHUB_API_TOKEN`` with the server's own address
3. the running server that started this kernel, whose pid is ``JPY_PARENT_PID``

Running servers are found by the ``jpserver-PID.json`` files that Jupyter writes into its runtime
directory. This module reads tokens and writes none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ._address import ServerAddress, check_url
from ._errors import ServerNotFound

WHERE_TO_LOOK = (
    "set LOOPAT_URL and LOOPAT_TOKEN; or run under a JupyterHub (JUPYTERHUB_API_TOKEN); or in a "
    "kernel of a running Jupyter server (JPY_PARENT_PID)"
)


def find_server(environ: Mapping[str, str] | None = None) -> ServerAddress:
    """The server that this process belongs to. Raises :class:`ServerNotFound`."""
    env = os.environ if environ is None else environ
    found = _from_loopat_url(env) or _from_hub(env) or _from_parent_pid(env)
    if found is None:
        raise ServerNotFound(f"no loopat server found: {WHERE_TO_LOOK}")
    return found


def running_servers(environ: Mapping[str, str] | None = None) -> Iterator[ServerAddress]:
    """The Jupyter servers of this user on this machine, the youngest first."""
    directory = _runtime_dir(os.environ if environ is None else environ)
    files = [(path.stat().st_mtime, path) for path in directory.glob("jpserver-*.json")]
    for _, path in sorted(files, reverse=True):
        pid = path.stem.removeprefix("jpserver-")
        if pid.isdigit() and _process_exists(int(pid)):
            try:
                found = _from_file(path, "running server")
            except ServerNotFound:  # one that cannot be used hides no other
                continue
            if found is not None:
                yield found


def server_with_pid(pid: int, environ: Mapping[str, str] | None = None) -> ServerAddress | None:
    """The Jupyter server of this user whose process id is ``pid``.

    ``None`` until it listens: it writes its address only then.
    """
    directory = _runtime_dir(os.environ if environ is None else environ)
    return _from_file(directory / f"jpserver-{pid}.json", "running server")


def _runtime_dir(env: Mapping[str, str]) -> Path:
    """The directory where Jupyter servers of this user write their addresses."""
    if env.get("JUPYTER_RUNTIME_DIR"):
        return Path(env["JUPYTER_RUNTIME_DIR"])
    try:
        from jupyter_core.paths import jupyter_runtime_dir
    except ImportError:  # the client also works where nothing of Jupyter is installed
        data = env.get("JUPYTER_DATA_DIR") or "~/.local/share/jupyter"
        return Path(data).expanduser() / "runtime"
    return Path(jupyter_runtime_dir())


def _from_loopat_url(env: Mapping[str, str]) -> ServerAddress | None:
    url = env.get("LOOPAT_URL")
    if not url:
        return None
    try:
        return ServerAddress(check_url(url), env.get("LOOPAT_TOKEN") or None, "LOOPAT_URL")
    except ValueError as error:
        raise ServerNotFound(f"LOOPAT_URL: {error}") from error


def _from_hub(env: Mapping[str, str]) -> ServerAddress | None:
    token, service = env.get("JUPYTERHUB_API_TOKEN"), env.get("JUPYTERHUB_SERVICE_URL")
    if not token or not service:
        return None
    path = env.get("JUPYTERHUB_SERVICE_PREFIX") or urlsplit(service).path
    parts = urlsplit(service)
    port = f":{parts.port}" if parts.port else ""
    url = f"{parts.scheme or 'http'}://{_reachable_host(parts.hostname or '')}{port}{path}"
    return ServerAddress(url, token, "JUPYTERHUB_API_TOKEN", own=True)


def _reachable_host(bound: str) -> str:
    """The host under which a server of this machine is reached that listens at ``bound``.

    A server that listens everywhere is asked over loopback, of the family that it listens on: its
    name could lead out of the machine and back, or to a proxy, and the token with it.
    """
    if bound in {"", "0.0.0.0", "*", "localhost"}:  # noqa: S104
        return "127.0.0.1" if bound != "localhost" else bound
    if bound == "::":
        return "[::1]"
    return f"[{bound}]" if ":" in bound else bound


def _from_parent_pid(env: Mapping[str, str]) -> ServerAddress | None:
    pid = env.get("JPY_PARENT_PID", "")
    if not pid.isdigit():
        return None
    return _from_file(_runtime_dir(env) / f"jpserver-{pid}.json", "JPY_PARENT_PID")


def _from_file(path: Path, found_by: str) -> ServerAddress | None:
    """The address in a server's file; ``None`` where it is missing or incompletely written."""
    try:
        info = json.loads(path.read_text("utf-8"))
        token, socket = str(info.get("token") or ""), str(info.get("sock") or "")
        base = str(info.get("base_url") or "/")
        if socket:
            url = f"http://localhost{base}"
        elif "port" in info and "hostname" in info:
            scheme = "https" if info.get("secure") else "http"
            host = _reachable_host(str(info["hostname"]))
            url = check_url(f"{scheme}://{host}:{int(info['port'])}{base}")
        else:
            url = check_url(str(info["url"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not token and info.get("password"):
        raise ServerNotFound(
            f"the server at {url} wants a password and has no token: run `loopat token create` "
            "on its machine, and set LOOPAT_URL and LOOPAT_TOKEN"
        )
    return ServerAddress(url, token or None, found_by, socket or None, own=True)


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
