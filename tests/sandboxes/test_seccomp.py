"""The filter's decisions on both machines, by running its program in a small interpreter."""

from __future__ import annotations

import struct

import pytest

from loopat_jupyter.sandboxes.landlock import monitor
from loopat_jupyter.sandboxes.landlock import seccomp as landlock_seccomp
from loopat_jupyter.sandboxes.launcher import idmap
from loopat_jupyter.sandboxes.runtime import seccomp
from loopat_jupyter.sandboxes.runtime.seccomp import (
    ALLOW,
    EAFNOSUPPORT,
    ENOSYS,
    EPERM,
    ERRNO,
    KILL_PROCESS,
)

X86, ARM = "x86_64", "aarch64"


def decide(
    machine: str,
    number: int,
    *arguments: int,
    audit: int | None = None,
    code: bytes | None = None,
) -> int:
    """What the kernel would answer to this call."""
    code = code or seccomp.filter_program(machine)
    assert code is not None
    program = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    audit = seccomp.ARCHITECTURES[machine].audit if audit is None else audit
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, audit, 0, *padded)
    at = accumulator = 0
    while True:
        operation, yes, no, k = program[at]
        at += 1
        if operation == seccomp.RETURN:
            return k
        if operation == seccomp.LOAD:
            [accumulator] = struct.unpack_from("<I", data, k)
            continue
        if operation == seccomp.AND:
            accumulator &= k
            continue
        holds = {
            seccomp.JUMP_EQUAL: accumulator == k,
            seccomp.JUMP_GREATER_EQUAL: accumulator >= k,
            seccomp.JUMP_SET: bool(accumulator & k),
        }[operation]
        at += yes if holds else no


NUMBERS = {
    "read": (0, 63),
    "mount": (165, 40),
    "unshare": (272, 97),
    "ptrace": (101, 117),
    "io_uring_setup": (425, 425),
    "clone": (56, 220),
    "clone3": (435, 435),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "personality": (135, 92),
    "fchmod": (91, 52),
    "openat": (257, 56),
}


@pytest.mark.parametrize("machine", [X86, ARM])
@pytest.mark.parametrize(
    ("call", "arguments", "answer"),
    [
        ("read", (), ALLOW),
        ("mount", (), ERRNO | EPERM),
        ("unshare", (0x10000000,), ERRNO | EPERM),
        ("ptrace", (), ERRNO | EPERM),
        ("io_uring_setup", (), ERRNO | EPERM),
        ("clone", (0x11,), ALLOW),
        ("clone", (0x3D0F00,), ALLOW),
        ("clone", (0x10000011,), ERRNO | EPERM),
        ("clone", (0x20000,), ERRNO | EPERM),
        ("clone3", (), ERRNO | ENOSYS),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), ERRNO | EPERM),
        ("ioctl", (0, 0x5412 | 1 << 32), ERRNO | EPERM),
        ("socket", (1,), ALLOW),
        ("socket", (10,), ALLOW),
        ("socket", (17,), ERRNO | EAFNOSUPPORT),
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0x400000,), ERRNO | EPERM),
        ("fchmod", (3, 0o755), ALLOW),
        ("fchmod", (3, 0o4755), ERRNO | EPERM),
        ("openat", (0, 0, 0, 0o4755), ALLOW),
        ("openat", (0, 0, 0o101, 0o644), ALLOW),
        ("openat", (0, 0, 0o101, 0o2755), ERRNO | EPERM),
    ],
)
def test_each_call_gets_its_answer(
    machine: str, call: str, arguments: tuple[int, ...], answer: int
) -> None:
    number = NUMBERS[call][0 if machine == X86 else 1]
    assert decide(machine, number, *arguments) == answer


NOTIFY, EACCES, ENOTTY, EOPNOTSUPP = landlock_seccomp.NOTIFY, 13, 25, 95
PIDS = {landlock_seccomp.SUPERVISOR_MARK: 4321, landlock_seccomp.MONITOR_MARK: 4320}
PROXIED, UNPROXIED, OLD = (7, True), (7, False), (1, True)
"""The version of Landlock, and whether there is an egress proxy."""


@pytest.mark.parametrize("machine", [X86, ARM])
@pytest.mark.parametrize(
    ("where", "call", "arguments", "answer"),
    [
        (PROXIED, "socket", (2, 1 | 0o2000000, 0), ALLOW),
        (PROXIED, "socket", (2, 1, 6), ALLOW),
        (PROXIED, "socket", (2, 1, 262), ERRNO | EACCES),
        (PROXIED, "socket", (2, 2, 0), ERRNO | EACCES),
        (PROXIED, "socket", (2, 3, 1), ERRNO | EACCES),
        (PROXIED, "socket", (10, 1, 0), ERRNO | EAFNOSUPPORT),
        (PROXIED, "socket", (1, 1, 0), ERRNO | EAFNOSUPPORT),
        (PROXIED, "socket", (16, 3, 0), ERRNO | EAFNOSUPPORT),
        (UNPROXIED, "socket", (2, 1, 0), ERRNO | EAFNOSUPPORT),
        (UNPROXIED, "connect", (3,), ERRNO | EACCES),
        (PROXIED, "connect", (3,), NOTIFY),
        (PROXIED, "bind", (3,), ERRNO | EACCES),
        (PROXIED, "listen", (3,), ERRNO | EACCES),
        (PROXIED, "socketpair", (1, 1), ALLOW),
        (PROXIED, "socketpair", (1, 5), ALLOW),
        (PROXIED, "socketpair", (1, 2), ERRNO | EACCES),
        (PROXIED, "sendto", (3, 0, 0, 0x4000), ALLOW),
        (PROXIED, "sendto", (3, 0, 0, 0x20000000), ERRNO | EOPNOTSUPP),
        (PROXIED, "sendmsg", (3, 0, 0x20004000), ERRNO | EOPNOTSUPP),
        (PROXIED, "sendmmsg", (3, 0, 1, 0x20000000), ERRNO | EOPNOTSUPP),
        (PROXIED, "kill", (99, 9), ALLOW),
        (PROXIED, "kill", (0, 9), ALLOW),
        (PROXIED, "kill", (4321, 9), ERRNO | EPERM),
        (PROXIED, "kill", (-4320 & 0xFFFFFFFF, 9), ERRNO | EPERM),
        (PROXIED, "kill", (-1 & 0xFFFFFFFF, 9), ERRNO | EPERM),
        (PROXIED, "tkill", (99, 9), ALLOW),
        (PROXIED, "tkill", (4321, 9), ERRNO | EPERM),
        (OLD, "tkill", (99, 9), ERRNO | EPERM),
        (PROXIED, "pidfd_open", (4320,), ERRNO | EPERM),
        (PROXIED, "fcntl", (0, 3), ALLOW),
        (PROXIED, "fcntl", (0, 8), ERRNO | EPERM),
        (PROXIED, "prlimit64", (0, 7), ALLOW),
        (PROXIED, "prlimit64", (99, 7), ERRNO | EPERM),
        (PROXIED, "setpriority", (0, 0), ALLOW),
        (PROXIED, "setpriority", (2, 0), ERRNO | EPERM),
        (PROXIED, "setpriority", (0, 99), ERRNO | EPERM),
        (PROXIED, "fchmod", (3, 0o644), NOTIFY),
        (PROXIED, "utimensat", (3,), NOTIFY),
        (PROXIED, "fchownat", (3,), ERRNO | EPERM),
        (PROXIED, "setxattr", (3,), ERRNO | EOPNOTSUPP),
        (PROXIED, "ioctl", (0, 0x5401), ALLOW),
        (PROXIED, "ioctl", (0, 0x80045430), ALLOW),
        (PROXIED, "ioctl", (0, 0x40049409), ALLOW),
        (PROXIED, "ioctl", (0, 0x40086602), ERRNO | ENOTTY),
        (PROXIED, "ioctl", (0, 0x8901), ERRNO | ENOTTY),
        (PROXIED, "truncate", (0, 0), ALLOW),
        (OLD, "truncate", (0, 0), ERRNO | EPERM),
        (OLD, "openat", (0, 0, 0), ALLOW),
        (OLD, "openat", (0, 0, 0o1001), ALLOW),
        (OLD, "openat", (0, 0, 0o1000), ERRNO | EPERM),
        (OLD, "openat", (0, 0, 0o1003), ERRNO | EPERM),
    ],
)
def test_the_strict_filter_gives_each_call_its_answer(
    machine: str, where: tuple[int, bool], call: str, arguments: tuple[int, ...], answer: int
) -> None:
    code = monitor.fill_in_pids(landlock_seccomp.strict_program(*where, machine), PIDS)
    number = landlock_seccomp.numbers(machine)[call]
    assert decide(machine, number, *arguments, code=code) == answer


def test_the_strict_filter_kills_another_numbering_too() -> None:
    code = landlock_seccomp.strict_program(7, True, X86)
    assert decide(X86, 0, audit=0x40000003, code=code) == KILL_PROCESS


def test_another_numbering_kills() -> None:
    assert decide(X86, 0, audit=0x40000003) == KILL_PROCESS
    assert decide(ARM, 63, audit=0x40000028) == KILL_PROCESS
    assert decide(X86, 0x40000000) == KILL_PROCESS


def test_an_unknown_machine_has_no_filter() -> None:
    assert seccomp.filter_program("riscv64") is None


def test_owners_are_swapped_and_no_id_is_lost() -> None:
    ranges = [tuple(map(int, line.split())) for line in idmap.swap_map(64999).splitlines()]
    assert sum(count for _, _, count in ranges) == 2**32 - 1
    found = {inside: outside for inside, outside, count in ranges if count == 1}
    assert (found[0], found[64999]) == (64999, 0)
    assert all(inside == outside for inside, outside, count in ranges if count > 1)
