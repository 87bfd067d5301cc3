"""What the tier ``landlock`` enforces, by the version of Landlock in the kernel."""

from __future__ import annotations

from loopat_jupyter.loops.ports.sandbox import SandboxIsolation

ENFORCED = (
    "only the loop's workdir, home and folders can be written to; of the rest only the system, the "
    "Python environment and what was allowed can be read",
    "the server's environment, memory and files, Jupyter's runtime directory and other loops "
    "cannot be read",
    "no network: no socket can be made but pairs among the loop's own processes",
    "no privileges can be gained, a system call filter",
    "modes and times of files can be changed only where the loop may write; owners and extended "
    "attributes nowhere",
    "the supervisor cannot be killed, stopped, traced or starved",
    "nothing of it is left when it ends",
    "limits on memory, processes, open files, file size, output and time",
)
SIGNALS = "processes outside the sandbox cannot be signalled"
GAPS = (
    "weaker than bubblewrap: the sandbox shares all namespaces with the host, and the kernel",
    "whether a file of the host exists, its size, owner and times can be asked for by its name",
    "process ids of the host are visible, whose they are and how they are scheduled; nothing else "
    "of them is",
    "the host's /etc/passwd and /etc/group can be read",
    "shared memory (/dev/shm) is the host's: objects of the same user can be opened by whoever "
    "knows their names, what is left there stays, and its size is not limited",
    "disk space as a whole is not limited, only the size of each file",
    "memory is limited by a watcher, so a short peak above the limit is possible; shared memory "
    "that no process maps is not counted",
    "processes are counted by user: how many the user had outside when a command started is added "
    "to the limit",
    "what the kernel counts for each user is shared with the server",
)
BY_ABI = (
    (2, "files cannot be moved between directories, only copied"),
    (4, "TCP is refused by the system call filter alone"),
    (5, "ioctl on devices is limited by the system call filter alone"),
    (
        6,
        "processes of the same user outside the sandbox can be signalled, the server included "
        "where it has the same user; one that forks faster than it can be found may outlive the "
        "stop",
    ),
    (7, "what is denied is not in the kernel's audit log"),
)
"""Gaps, and the version of Landlock that closes each."""
ROOT_SHARED = "all loops of a server that is root have the same user"
UNMAPPED = "what root owns in a given folder is another user's inside, and its permissions apply"


def isolation(abi: int, *, root: bool, mounts: bool = False) -> SandboxIsolation:
    """The tier's isolation. ``root``: the server is root, and its sandboxes have another user.
    ``mounts``: it may mount, so that folders belong to that user in an idmapped mount."""
    still_open = [gap for since, gap in BY_ABI if abi < since]
    if root:
        still_open += [ROOT_SHARED] if mounts else [ROOT_SHARED, UNMAPPED]
    return SandboxIsolation(
        tier="landlock",
        isolates=True,
        enforced=(*ENFORCED, *([SIGNALS] if abi >= 6 else [])),
        gaps=(*GAPS, *still_open),
    )
