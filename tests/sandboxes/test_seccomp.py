"""The filter's decisions on both machines, by running its program in a small interpreter."""

from __future__ import annotations

import struct

import pytest

from loopat_jupyter.sandboxes import idmap, seccomp
from loopat_jupyter.sandboxes.seccomp import ALLOW, EAFNOSUPPORT, ENOSYS, EPERM, ERRNO, KILL_PROCESS

X86, ARM = "x86_64", "aarch64"


def decide(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the kernel would answer to this call."""
    code = seccomp.program(machine)
    assert code is not None
    program = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    audit = seccomp.MACHINES[machine].audit if audit is None else audit
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


def test_another_numbering_kills() -> None:
    assert decide(X86, 0, audit=0x40000003) == KILL_PROCESS
    assert decide(ARM, 63, audit=0x40000028) == KILL_PROCESS
    assert decide(X86, 0x40000000) == KILL_PROCESS


def test_an_unknown_machine_has_no_filter() -> None:
    assert seccomp.program("riscv64") is None


def test_owners_are_swapped_and_nobody_is_lost() -> None:
    ranges = [tuple(map(int, line.split())) for line in idmap.swapped(64999).splitlines()]
    assert sum(count for _, _, count in ranges) == 2**32 - 1
    found = {inside: outside for inside, outside, count in ranges if count == 1}
    assert (found[0], found[64999]) == (64999, 0)
    assert all(inside == outside for inside, outside, count in ranges if count > 1)
