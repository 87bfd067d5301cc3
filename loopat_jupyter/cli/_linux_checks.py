"""The checks of what the Linux kernel offers to sandboxes, read from ``/proc`` and ``/sys``.

They explain why a tier fails. Whether it works is not derived from them; ``_sandbox_checks``
tries it.
"""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

from ._check_result import Check

_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION = 1
_LISTENING = "0A"
_LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
"""127.0.0.1, ::1 and the first mapped into IPv6, as /proc/net writes them (little-endian)."""


def linux_checks() -> list[Check]:
    if platform.system() != "Linux":
        found = f"{platform.system()}: sandboxes need Linux"
        return [Check("kernel", "warning", found, "run the server on Linux, or in a container")]
    return [
        Check("kernel", "info", platform.release()),
        user_namespaces_check(),
        Check("seccomp", "info", "yes" if _status_has("Seccomp") else "no"),
        landlock_check(),
        cgroups_check(),
    ]


def user_namespaces_check() -> Check:
    name = "user namespaces"
    limit = _read_number("/proc/sys/user/max_user_namespaces")
    if limit == 0:
        return Check(name, "warning", "none allowed", "sysctl -w user.max_user_namespaces=15000")
    if _read_number("/proc/sys/kernel/unprivileged_userns_clone") == 0:
        fix = "sysctl -w kernel.unprivileged_userns_clone=1"
        return Check(name, "warning", "only for root", fix)
    if _read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1:
        fix = (
            "an AppArmor profile for bwrap with `userns,`, or "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
        return Check(name, "info", "restricted by AppArmor to programs with a profile", fix)
    return Check(name, "info", f"yes, at most {limit}" if limit is not None else "no such kernel")


def landlock_check() -> Check:
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    return Check("landlock", "info", f"yes, version {abi}" if abi > 0 else "no")


def cgroups_check() -> Check:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if not controllers.exists():
        return Check("cgroups", "info", "no version 2")
    return Check("cgroups", "info", f"version 2: {controllers.read_text().strip() or 'none given'}")


def ports_check() -> Check:
    """The TCP ports on which this machine's programs listen for other machines.

    An agent without network isolation can connect to them, too.
    """
    found = sorted(
        {port for name in ("tcp", "tcp6") for port in _listening_ports(f"/proc/net/{name}")}
    )
    shown = ", ".join(map(str, found[:20])) + (", …" if len(found) > 20 else "")
    return Check("open ports", "info", f"to other machines: {shown or 'none'}")


def _listening_ports(table: str) -> list[int]:
    try:
        lines = Path(table).read_text().splitlines()[1:]
    except OSError:
        return []
    found = []
    for line in lines:
        _, local, _, state, *_ = line.split()
        address, _, port = local.partition(":")
        if state == _LISTENING and address not in _LOOPBACK:
            found.append(int(port, 16))
    return found


def _read_number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _status_has(key: str) -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    return any(line.startswith(f"{key}:") for line in lines)
