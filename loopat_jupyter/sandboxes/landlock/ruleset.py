"""The kernel's Landlock, through its three system calls: its version, and rulesets.

A ruleset is an allow-list: of the rights that it *handles*, only those that a rule gives are left.
It is a descriptor that can be passed to another process, which applies it to itself with
``landlock_restrict_self``. The numbers are the same on every architecture; rights that the kernel
does not know yet are left out.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
KNOWN_ABI = 7
"""The newest version whose rights are used here."""

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << n for n in range(6))
MAKE_DIR, MAKE_REG, MAKE_FIFO, MAKE_SYM = (1 << n for n in (7, 8, 10, 12))
REFER, TRUNCATE, IOCTL_DEV = (1 << n for n in (13, 14, 15))
READ = EXECUTE | READ_FILE | READ_DIR
CHANGE = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_FIFO | MAKE_SYM
WRITE = READ | CHANGE | REFER | TRUNCATE
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV
FILE_RIGHTS = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
"""The rights that a rule for a single file may give."""
BIND_TCP, CONNECT_TCP = 1, 2
SCOPE_ABSTRACT_UNIX, SCOPE_SIGNAL = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


class LandlockUnavailable(Exception):
    """The kernel has no usable Landlock; ``errno`` says why."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number


def kernel_abi() -> int:
    """The version of Landlock in this kernel, from 1. Raises :class:`LandlockUnavailable`."""
    found: int = _libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), CREATE_RULESET_VERSION)
    if found < 1:
        raise LandlockUnavailable(ctypes.get_errno() or errno.ENOSYS)
    return found


def handled_files(abi: int) -> int:
    """All rights over files that this version knows, as a mask."""
    known = 13 + (abi >= 2) + (abi >= 3) + (abi >= 5)
    return (1 << known) - 1


class Ruleset:
    """A ruleset to which rules are added. Owns its descriptor until :meth:`detach`."""

    def __init__(self, abi: int, *, files: bool = False, tcp: bool = False, scope: int = 0) -> None:
        self._files = handled_files(abi) if files else 0
        fields = [self._files]
        if abi >= 4:
            fields.append(BIND_TCP | CONNECT_TCP if tcp else 0)
        if abi >= 6:
            fields.append(scope)
        wanted = struct.pack(f"={len(fields)}Q", *fields)
        self._fd: int = _libc.syscall(CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), 0)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "a Landlock ruleset could not be made")

    def allow(self, fd: int, rights: int) -> None:
        """Give rights over a file, or over a directory and all below it, by a descriptor."""
        rights &= self._files
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= FILE_RIGHTS
        if not rights:
            return
        rule = struct.pack("=Qi", rights, fd)
        if _libc.syscall(ADD_RULE, self._fd, RULE_PATH_BENEATH, rule, 0):
            raise OSError(ctypes.get_errno(), "a Landlock rule could not be made")

    def detach(self) -> int:
        """The finished ruleset's descriptor, which the caller owns."""
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
