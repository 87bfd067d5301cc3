"""The second system call filter of a sandbox without namespaces: what Landlock does not restrict.

It is installed on top of :mod:`loopat_jupyter.sandboxes.runtime.seccomp`; of two results the kernel
takes the stricter one. Without a network namespace no socket may connect outside, and without a
mount or pid namespace no call may change what belongs to the same user outside: modes and times of
files, extended attributes, scheduling, queues. Calls that can only be judged by the process's
memory (the path of a ``chmod``, the address of a ``connect``) are passed to the monitor
(:mod:`loopat_jupyter.sandboxes.landlock.syscall_handler`), which does or refuses them.

The pids of the monitor and of the supervisor are known only when the filter is installed; the
program has marks in their places, and :mod:`loopat_jupyter.sandboxes.landlock.monitor` fills them
in.
"""

from __future__ import annotations

import platform

from loopat_jupyter.sandboxes.runtime.seccomp import (
    ALLOW,
    AND,
    ARCH_AT,
    ARCHITECTURES,
    EAFNOSUPPORT,
    ENOSYS,
    EPERM,
    JUMP_EQUAL,
    JUMP_SET,
    KILL_PROCESS,
    LOAD,
    NUMBER_AT,
    deny,
    for_call,
    instruction,
    load_argument,
    return_value,
)

NOTIFY = 0x7FC00000
"""SECCOMP_RET_USER_NOTIF: the monitor decides."""
EACCES, ENOTTY, EOPNOTSUPP = 13, 25, 95
SUPERVISOR_MARK, MONITOR_MARK = 0x7FFFFFF0, 0x7FFFFFF1
"""Marks in the place of pids that are not known yet; no pid is that large."""
ALL_PROCESSES = 0xFFFFFFFF
MSG_FASTOPEN, O_TRUNC, O_ACCMODE = 0x20000000, 0o1000, 3
AF_UNIX, AF_INET, STREAM, SEQPACKET, TYPE_BITS, TCP = 1, 2, 1, 5, 0xF, 6

_NUMBERS = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "ioctl": (16, 29), "fcntl": (72, 25), "kill": (62, 129), "tkill": (200, 130),
    "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434), "prlimit64": (302, 261), "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "mq_open": (240, 180),
    "mq_unlink": (241, 181), "semget": (64, 190), "semctl": (66, 191), "semop": (65, 193),
    "semtimedop": (220, 192), "msgctl": (71, 187), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "shmctl": (31, 195), "inotify_add_watch": (254, 27), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "getxattr": (191, 8), "lgetxattr": (192, 9),
    "fgetxattr": (193, 10), "listxattr": (194, 11), "llistxattr": (195, 12),
    "flistxattr": (196, 13), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "setxattrat": (463, 463), "getxattrat": (464, 464),
    "listxattrat": (465, 465), "removexattrat": (466, 466), "file_getattr": (468, 468),
    "file_setattr": (469, 469), "chown": (92, None), "lchown": (94, None), "fchown": (93, 55),
    "fchownat": (260, 54), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "utimensat": (280, 88), "truncate": (76, 45), "open": (2, None), "openat": (257, 56),
}  # fmt: skip
NOTIFIED = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2"),
    *("utime", "utimes", "futimesat", "utimensat"),
)
"""Calls that name a file by a path or a descriptor: the monitor checks where it lies."""
_REFUSED: dict[int, tuple[str, ...]] = {
    EACCES: ("bind", "listen"),
    EPERM: (
        *("mq_open", "mq_unlink", "semget", "semctl", "semop", "semtimedop"),
        *("msgctl", "msgsnd", "msgrcv", "shmctl", "inotify_add_watch"),
        *("chown", "lchown", "fchown", "fchownat"),
    ),
    ENOSYS: ("file_getattr", "file_setattr"),
    EOPNOTSUPP: tuple(name for name in _NUMBERS if "xattr" in name),
}
_SIGNALS = ("tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open")
_OWN_PROCESS_ONLY = (
    *("prlimit64", "sched_setaffinity", "sched_setscheduler"),
    *("sched_setparam", "sched_setattr"),
)
"""Calls whose first argument is a process; only 0, the caller itself, is allowed."""
_SEND_FLAGS = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}
"""Calls with message flags, and the index of that argument."""
_TTY = 0x5400
_IOCTLS = (0x40049409, 0x4020940D, 0xC020660B, 0x80086601)
"""Besides those of terminals and pipes: FICLONE, FICLONERANGE, FIEMAP, reading a file's flags."""
_SIGNAL_OWNERS = (8, 10, 15)
"""F_SETOWN, F_SETSIG and F_SETOWN_EX: they make the kernel send signals."""


def supported(machine: str | None = None) -> bool:
    """Whether the system call numbers of this machine are known."""
    return (machine or platform.machine()) in ARCHITECTURES


def numbers(machine: str | None = None) -> dict[str, int]:
    """This machine's number of each call that it has."""
    column = 0 if (machine or platform.machine()) == "x86_64" else 1
    return {n: number for n, pair in _NUMBERS.items() if (number := pair[column]) is not None}


def notified(machine: str | None = None) -> dict[int, str]:
    """The calls that are passed to the monitor, by number."""
    found = numbers(machine)
    return {found[name]: name for name in (*NOTIFIED, "connect") if name in found}


def strict_program(abi: int, proxied: bool, machine: str | None = None) -> bytes:
    """The filter for version ``abi`` of Landlock. ``proxied``: the monitor may connect sockets to
    the egress proxy."""
    has = numbers(machine)
    code = [
        instruction(LOAD, ARCH_AT),
        instruction(JUMP_EQUAL, ARCHITECTURES[machine or platform.machine()].audit, 1, 0),
        return_value(KILL_PROCESS),
        instruction(LOAD, NUMBER_AT),
    ]
    for error, names in _REFUSED.items():
        for name in names:
            if name in has:
                code += for_call(has[name], [deny(error)])
    for name in NOTIFIED:
        if name in has:
            code += for_call(has[name], [return_value(NOTIFY)])
    code += _network(has, proxied) + _signals(has, abi) + _devices(has)
    for name in _OWN_PROCESS_ONLY:
        code += for_call(has[name], [load_argument(0), *_equals(0, EPERM)])
    for name, which in (("setpriority", 0), ("ioprio_set", 1)):
        kind = [load_argument(0), instruction(JUMP_EQUAL, which, 1, 0), deny(EPERM)]
        code += for_call(has[name], [*kind, load_argument(1), *_equals(0, EPERM)])
    if abi < 3:
        code += _truncation(has)
    return b"".join([*code, return_value(ALLOW)])


def _equals(value: int, error: int) -> list[bytes]:
    """After a load: allow when it is this value, else fail with ``error``."""
    return [instruction(JUMP_EQUAL, value, 1, 0), deny(error), return_value(ALLOW)]


def _network(has: dict[str, int], proxied: bool) -> list[bytes]:
    """Socket pairs only; with a proxy also TCP sockets, which the monitor connects."""
    inet = [
        load_argument(0),
        instruction(JUMP_EQUAL, AF_INET, 1, 0),
        deny(EAFNOSUPPORT),
        load_argument(1),
        instruction(AND, TYPE_BITS),
        instruction(JUMP_EQUAL, STREAM, 1, 0),
        deny(EACCES),
        load_argument(2),
        instruction(JUMP_EQUAL, 0, 2, 0),
        instruction(JUMP_EQUAL, TCP, 1, 0),
        deny(EACCES),
        return_value(ALLOW),
    ]
    pair = [
        load_argument(0),
        instruction(JUMP_EQUAL, AF_UNIX, 1, 0),
        deny(EAFNOSUPPORT),
        load_argument(1),
        instruction(AND, TYPE_BITS),
        instruction(JUMP_EQUAL, STREAM, 2, 0),
        instruction(JUMP_EQUAL, SEQPACKET, 1, 0),
        deny(EACCES),
        return_value(ALLOW),
    ]
    code = for_call(has["socket"], inet if proxied else [deny(EAFNOSUPPORT)])
    code += for_call(has["socketpair"], pair)
    code += for_call(has["connect"], [return_value(NOTIFY) if proxied else deny(EACCES)])
    for name, flags in _SEND_FLAGS.items():
        fast = [load_argument(flags), instruction(JUMP_SET, MSG_FASTOPEN, 0, 1), deny(EOPNOTSUPP)]
        code += for_call(has[name], [*fast, return_value(ALLOW)])
    return code


def _signals(has: dict[str, int], abi: int) -> list[bytes]:
    """Nothing may signal the monitor, the supervisor, or all processes (``kill(-1)``)."""
    pids = (SUPERVISOR_MARK, MONITOR_MARK)
    groups = tuple(-pid & 0xFFFFFFFF for pid in pids)
    code = for_call(
        has["kill"], [load_argument(0), *_refuse_values((*pids, *groups, ALL_PROCESSES))]
    )
    for name in _SIGNALS:
        refuse = (
            [deny(EPERM)]
            if name == "tkill" and abi < 6
            else [load_argument(0), *_refuse_values(pids)]
        )
        code += for_call(has[name], refuse)
    return code + for_call(has["fcntl"], [load_argument(1), *_refuse_values(_SIGNAL_OWNERS)])


def _refuse_values(values: tuple[int, ...]) -> list[bytes]:
    tests = [instruction(JUMP_EQUAL, v, len(values) - at, 0) for at, v in enumerate(values)]
    return [*tests, return_value(ALLOW), deny(EPERM)]


def _devices(has: dict[str, int]) -> list[bytes]:
    """Requests of terminals and pipes, and a few of file systems that change nothing outside."""
    count = len(_IOCTLS)
    tests = [instruction(JUMP_EQUAL, v, count - at + 2, 0) for at, v in enumerate(_IOCTLS)]
    kind = [instruction(AND, 0xFF00), instruction(JUMP_EQUAL, _TTY, 1, 0)]
    return for_call(
        has["ioctl"], [load_argument(1), *tests, *kind, deny(ENOTTY), return_value(ALLOW)]
    )


def _truncation(has: dict[str, int]) -> list[bytes]:
    """Before Landlock restricted truncation: a file is emptied only through a descriptor that may
    write to it."""
    code = for_call(has["truncate"], [deny(EPERM)])
    for name, flags in (("open", 1), ("openat", 2)):
        if name in has:
            writes = [instruction(AND, O_ACCMODE), *_refuse_values((0, O_ACCMODE))]
            empties = [
                load_argument(flags),
                instruction(JUMP_SET, O_TRUNC, 1, 0),
                return_value(ALLOW),
            ]
            code += for_call(has[name], [*empties, *writes])
    return code
