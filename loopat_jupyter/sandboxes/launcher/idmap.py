"""Idmapped mounts: folders of a root server that the sandbox's user has as its own.

In such a mount, what root owns on disk belongs to the sandbox's user, and what that user makes
belongs to root on disk; so a folder works inside as it does for the server's own kernels. The ids
of all other users are unchanged. Needs Linux 5.12 and a file system that supports it.
"""

# ruff: noqa: PTH123

from __future__ import annotations

import ctypes
import os
import platform
import struct

CLONE_NEWUSER = 0x10000000
AT_EMPTY_PATH, AT_RECURSIVE, AT_FDCWD = 0x1000, 0x8000, -100
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH, MOUNT_ATTR_IDMAP = 1, 4, 0x100000
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
IDS = 2**32 - 1

libc = ctypes.CDLL(None, use_errno=True)


def supported() -> bool:
    """Whether this machine's architecture has the system call numbers of this module."""
    return platform.machine() in ("x86_64", "aarch64")


def swap_map(uid: int) -> str:
    """The content of a ``uid_map`` that swaps root and ``uid``, and no other ids."""
    parts = ((0, uid, 1), (1, 1, uid - 1), (uid, 0, 1), (uid + 1, uid + 1, IDS - uid - 1))
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in parts if count)


def open_user_namespace(uid: int) -> int:
    """A user namespace with that map, as a descriptor. No process is left in it."""
    ready, report = os.pipe()
    hold, release = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(release)
        os.write(report, b"y" if libc.unshare(CLONE_NEWUSER) == 0 else b"n")
        os.read(hold, 1)
        os._exit(0)
    try:
        if os.read(ready, 1) != b"y":
            raise OSError(0, "no user namespace for an idmapped mount")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(swap_map(uid))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for fd in (ready, report, hold, release):
            os.close(fd)


def namespace_for(mounts: list[tuple[int, str, bool]], uid: int) -> int:
    """A user namespace where one of the mounts (``(index, path, mapped)``) is to be mapped; else,
    and on an architecture that is not supported, -1."""
    wanted = any(mapped for _, _, mapped in mounts)
    return open_user_namespace(uid) if wanted and supported() else -1


def checked_syscall(number: int, *arguments: object) -> int:
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def bind_mapped(source: int, target: str, user_namespace: int) -> None:
    """Mount the open directory ``source`` at ``target`` through the map of a user namespace."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE
    tree = checked_syscall(OPEN_TREE, source, b"", ctypes.c_uint(flags))
    try:
        wanted = struct.pack("QQQQ", MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
        every = ctypes.c_uint(AT_EMPTY_PATH | AT_RECURSIVE)
        checked_syscall(MOUNT_SETATTR, tree, b"", every, wanted, ctypes.c_size_t(len(wanted)))
        flags = MOVE_MOUNT_F_EMPTY_PATH
        checked_syscall(MOVE_MOUNT, tree, b"", AT_FDCWD, target.encode(), ctypes.c_uint(flags))
    finally:
        os.close(tree)
