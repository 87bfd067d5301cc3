"""Builds the system call filter of a sandbox: a classic BPF program.

It is a deny-list in addition to namespaces and dropped capabilities: calls that only widen the
kernel's attack surface fail with EPERM, so that programs see an ordinary error. A call in another
architecture's numbering (32-bit, x32) kills the process, since the list does not apply to it.
Numbers are the kernel's published tables for x86_64 and aarch64; other architectures get no filter,
which is then among the tier's gaps.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass, field
from functools import cache

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_SET, RETURN, AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
NUMBER_AT, ARCH_AT, ARG0_AT = 0, 4, 16
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
X32_BIT = 0x40000000
NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
IOCTLS = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put characters into a terminal's input."""
FAMILIES = (1, 2, 10, 16)
"""Unix, IPv4, IPv6, netlink (the C library asks it for interfaces)."""
PERSONALITIES = (0x0, 0x40000, 0xFFFFFFFF)
"""The ordinary one, the one debuggers set (no address randomisation), and asking."""

_BOTH = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "mount_setattr": (442, 442), "move_mount": (429, 429), "open_tree": (428, 428),
    "open_tree_attr": (467, 467), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "unshare": (272, 97), "setns": (308, 268),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438), "bpf": (321, 280),
    "perf_event_open": (298, 241), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "userfaultfd": (323, 282), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "syslog": (103, 116), "acct": (163, 89), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42), "vhangup": (153, 58), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "move_pages": (279, 239), "migrate_pages": (256, 238), "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    # System V memory and queues outlive their processes, and no limit applies to them then.
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186),
}  # fmt: skip
_X86_ONLY = {
    "modify_ldt": 154, "iopl": 172, "ioperm": 173, "create_module": 174, "get_kernel_syms": 177,
    "query_module": 178, "uselib": 134, "_sysctl": 156,
}  # fmt: skip
_MODES = {
    "chmod": ((90, 1), None),
    "fchmod": ((91, 1), (52, 1)),
    "fchmodat": ((268, 2), (53, 2)),
    "fchmodat2": ((452, 2), (452, 2)),
    "mknod": ((133, 1), None),
    "mknodat": ((259, 2), (33, 2)),
    "creat": ((85, 1), None),
}
"""Calls that set a file's mode, and the index of that argument."""
_OPENS = {"open": ((2, 1), None), "openat": ((257, 2), (56, 2))}
"""Calls that may create a file, and the index of the flags; the mode is the next argument."""
SET_ID_BITS = 0o6000
"""A set-id file in a shared folder would give whoever runs it outside the sandbox user's rights."""
CREATES = 0o100 | 0o20000000
"""O_CREAT, and the bit of O_TMPFILE that is not O_DIRECTORY: such a file can be linked later."""
_CHECKED = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "openat2": (437, 437),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "personality": (135, 92),
}
_OF_A_PROCESS = {
    "prlimit64": ((302, 0), (261, 0)),
    "sched_setaffinity": ((203, 0), (122, 0)),
    "sched_setscheduler": ((144, 0), (119, 0)),
    "sched_setparam": ((142, 0), (118, 0)),
    "sched_setattr": ((314, 0), (274, 0)),
    "setpriority": ((141, 1), (140, 1)),
    "ioprio_set": ((251, 1), (30, 1)),
}
"""Calls that limit a process or lower its priority, and the index of the pid. Process 1 is the
supervisor, which has the same user as the agent and which the agent must not slow down."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The system call numbers of one architecture."""

    audit: int
    denied: tuple[int, ...]
    checked: dict[str, int] = field(default_factory=dict)
    modes: tuple[tuple[int, int], ...] = ()
    opens: tuple[tuple[int, int], ...] = ()
    of_a_process: tuple[tuple[int, int], ...] = ()
    x32: bool = False


ARCHITECTURES = {
    "x86_64": Architecture(
        audit=0xC000003E,
        denied=(*(x for x, _ in _BOTH.values()), *_X86_ONLY.values()),
        checked={name: x for name, (x, _) in _CHECKED.items()},
        modes=tuple(x for x, _ in _MODES.values()),
        opens=tuple(x for x, _ in _OPENS.values()),
        of_a_process=tuple(x for x, _ in _OF_A_PROCESS.values()),
        x32=True,
    ),
    "aarch64": Architecture(
        audit=0xC00000B7,
        denied=tuple(a for _, a in _BOTH.values()),
        checked={name: a for name, (_, a) in _CHECKED.items()},
        modes=tuple(a for _, a in _MODES.values() if a),
        opens=tuple(a for _, a in _OPENS.values() if a),
        of_a_process=tuple(a for _, a in _OF_A_PROCESS.values()),
    ),
}


def instruction(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, k)


def return_value(value: int) -> bytes:
    return instruction(RETURN, value)


def deny(error: int) -> bytes:
    return return_value(ERRNO | error)


def for_call(number: int, body: list[bytes]) -> list[bytes]:
    """``body``, run only for this call; it must end with a return."""
    return [instruction(JUMP_EQUAL, number, 0, len(body)), *body]


def load_argument(index: int) -> bytes:
    """Load the low half of an argument (both architectures are little-endian)."""
    return instruction(LOAD, ARG0_AT + 8 * index)


def one_of(values: tuple[int, ...], error: int, allowed: bool) -> list[bytes]:
    """After a load: allow only these values, or with ``allowed`` false all but these."""
    found, other = (
        (return_value(ALLOW), deny(error)) if allowed else (deny(error), return_value(ALLOW))
    )
    tests = [
        instruction(JUMP_EQUAL, value, len(values) - index, 0) for index, value in enumerate(values)
    ]
    return [*tests, other, found]


@cache
def filter_program(machine: str | None = None) -> bytes | None:
    """The filter for an architecture (by default this one); ``None`` where it is not known."""
    found = ARCHITECTURES.get(machine or platform.machine())
    if found is None:
        return None
    code = [
        instruction(LOAD, ARCH_AT),
        instruction(JUMP_EQUAL, found.audit, 1, 0),
        return_value(KILL_PROCESS),
        instruction(LOAD, NUMBER_AT),
    ]
    if found.x32:
        code += [instruction(JUMP_GREATER_EQUAL, X32_BIT, 0, 1), return_value(KILL_PROCESS)]
    for number in found.denied:
        code += for_call(number, [deny(EPERM)])
    code += _checks(found.checked)
    for number, mode in found.modes:
        code += for_call(number, _refuse_bits(mode, SET_ID_BITS))
    for number, flags in found.opens:
        creating = [load_argument(flags), instruction(JUMP_SET, CREATES, 1, 0), return_value(ALLOW)]
        code += for_call(number, [*creating, *_refuse_bits(flags + 1, SET_ID_BITS)])
    for number, process in found.of_a_process:
        code += for_call(number, [load_argument(process), *one_of((1,), EPERM, allowed=False)])
    return b"".join([*code, return_value(ALLOW)])


def _refuse_bits(index: int, bits: int) -> list[bytes]:
    """Allow when the argument has none of these bits, else fail with EPERM."""
    test = instruction(JUMP_SET, bits, 0, 1)
    return [load_argument(index), test, deny(EPERM), return_value(ALLOW)]


def _checks(checked: dict[str, int]) -> list[bytes]:
    """The calls that are judged by their arguments."""
    code = for_call(checked["clone"], _refuse_bits(0, NAMESPACE_FLAGS))
    for name in ("clone3", "openat2"):  # their arguments lie in memory, which no filter can read
        code += for_call(checked[name], [deny(ENOSYS)])
    code += for_call(checked["ioctl"], [load_argument(1), *one_of(IOCTLS, EPERM, allowed=False)])
    for name in ("socket", "socketpair"):
        families = one_of(FAMILIES, EAFNOSUPPORT, allowed=True)
        code += for_call(checked[name], [load_argument(0), *families])
    personalities = one_of(PERSONALITIES, EPERM, allowed=True)
    code += for_call(checked["personality"], [load_argument(0), *personalities])
    return code
