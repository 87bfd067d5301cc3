"""Handles system calls of a restricted process in its monitor (``SECCOMP_RET_USER_NOTIF``): changes
of a file's mode or times, and connections to the egress proxy.

Landlock restricts neither ``chmod`` nor ``utime``, and its rights over TCP know ports but no
addresses. A seccomp filter cannot read a path or an address either: they lie in memory. So the
filter passes these calls to the monitor, which is not restricted: it reads the caller's memory,
decides, and does the call itself. It never lets the kernel continue a call, since the memory could
have changed meanwhile.

A file is opened first (``O_PATH``), then judged by where it really lies, then changed through that
descriptor.
"""

# ruff: noqa: PTH101, PTH115, PTH116, PTH123

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVE, SEND, IS_VALID = 0xC0502100, 0xC0182101, 0x40082102
ADD_FD, SET_FD = 0x40182103, 1
NOTICE, REPLY = "=QIIiIQ6Q", "=QqiI"
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = -100, 0x100, 0x1000
SET_ID_BITS = 0o6000
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
PATH_MAX, PAGE = 4096, 4096
CONNECT_TIMEOUT = struct.pack("ll", 5, 0)
LOOPBACK = socket.inet_aton("127.0.0.1")


class SyscallHandler:
    """Handles what comes from the filter's ``listener``. ``roots`` are the directories whose files
    may be changed; ``proxy_port`` is the one port on 127.0.0.1 that may be connected to; ``calls``
    names the system calls by number."""

    def __init__(
        self, listener: int, calls: dict[int, str], roots: list[str], proxy_port: int | None
    ) -> None:
        self._listener = listener
        self._calls = calls
        self._roots = roots
        self._proxy_port = proxy_port
        self._id = 0
        self._pid = 0

    def handle_next(self) -> None:
        """Receive one system call, do or refuse it, and send the result. The caller may have been
        killed by then."""
        notice = bytearray(struct.calcsize(NOTICE))
        try:
            fcntl.ioctl(self._listener, RECEIVE, notice)
        except FileNotFoundError:
            return
        self._id, self._pid, _, number, _, _, *arguments = struct.unpack(NOTICE, notice)
        try:
            self._execute(self._calls.get(number, ""), arguments)
            error = 0
        except OSError as refusal:
            error = -(refusal.errno or errno.EPERM)
        except (OverflowError, ValueError, struct.error):  # arguments out of every range
            error = -errno.EINVAL
        try:
            fcntl.ioctl(self._listener, SEND, struct.pack(REPLY, self._id, 0, error, 0))
        except FileNotFoundError:
            return

    def _execute(self, call: str, args: list[int]) -> None:
        """``args`` are the call's arguments as the kernel has them: unsigned, 64 bits."""
        table: dict[str, Callable[[], None]] = {
            "chmod": lambda: self._chmod(AT_FDCWD, required(args[0]), 0, args[1]),
            "fchmod": lambda: self._chmod(as_int(args[0]), 0, 0, args[1]),
            "fchmodat": lambda: self._chmod(as_int(args[0]), required(args[1]), 0, args[2]),
            "fchmodat2": lambda: self._chmod(as_int(args[0]), required(args[1]), args[3], args[2]),
            "utime": lambda: self._utime(
                AT_FDCWD, required(args[0]), 0, self._read_seconds(args[1])
            ),
            "utimes": lambda: self._utime(
                AT_FDCWD, required(args[0]), 0, self._read_time_pair(args[1], 1000)
            ),
            "futimesat": lambda: self._utime(
                as_int(args[0]), args[1], 0, self._read_time_pair(args[2], 1000)
            ),
            "utimensat": lambda: self._utime(
                as_int(args[0]), args[1], args[3], self._read_time_pair(args[2], 1)
            ),
            "connect": lambda: self._connect(as_int(args[0]), args[1], args[2]),
        }
        if call not in table:
            raise OSError(errno.ENOSYS, "unknown")
        table[call]()

    # ------------------------------------------------------------------ files

    def _chmod(self, directory: int, path: int, flags: int, mode: int) -> None:
        if mode & SET_ID_BITS:
            raise PermissionError(errno.EPERM, "set-id")
        fd = self._open_changeable(directory, path, flags)
        try:
            os.chmod(f"/proc/self/fd/{fd}", mode & 0o1777)
        finally:
            os.close(fd)

    def _utime(
        self, directory: int, path: int, flags: int, times: list[tuple[int, int]] | None
    ) -> None:
        fd = self._open_changeable(directory, path, flags)
        try:
            path_of_fd = f"/proc/self/fd/{fd}"
            if times is None:
                os.utime(path_of_fd)
                return
            found = os.stat(fd)
            then = (found.st_atime_ns, found.st_mtime_ns)
            wanted = [nanoseconds(t, old) for t, old in zip(times, then, strict=True)]
            os.utime(path_of_fd, ns=(wanted[0], wanted[1]))
        finally:
            os.close(fd)

    def _open_changeable(self, directory: int, path: int, flags: int) -> int:
        """Open the file (``O_PATH``) where it lies below one of the roots. Raises ``OSError``."""
        if not path and directory == AT_FDCWD:
            raise OSError(errno.EFAULT, "no path")
        name = self._read_path(path) if path else b""
        if not name and path and not flags & AT_EMPTY_PATH:
            raise FileNotFoundError(errno.ENOENT, "no path")
        fd = self._open_as_caller(
            directory, name, os.O_NOFOLLOW if flags & AT_SYMLINK_NOFOLLOW else 0
        )
        try:
            real = os.readlink(f"/proc/self/fd/{fd}")
            if not any(real == root or real.startswith(root + "/") for root in self._roots):
                raise PermissionError(errno.EACCES, "outside")
            self._check_still_waiting()
        except OSError:
            os.close(fd)
            raise
        return fd

    def _open_as_caller(self, directory: int, name: bytes, follow: int) -> int:
        base = f"/proc/{self._pid}/" + ("cwd" if directory == AT_FDCWD else f"fd/{directory}")
        try:
            start = os.open(base, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            raise OSError(errno.EBADF, "no such descriptor") from None
        if not name:
            return start
        for own in (b"/proc/self/", b"/proc/thread-self/"):
            if name.startswith(own):  # the caller's, not the monitor's
                name = b"/proc/%d/" % self._pid + name[len(own) :]
        try:
            return os.open(name, os.O_PATH | os.O_CLOEXEC | follow, dir_fd=start)
        finally:
            os.close(start)

    def _read_seconds(self, address: int) -> list[tuple[int, int]] | None:
        if not address:
            return None
        return [(value, 0) for value in struct.unpack("=qq", self._read_memory(address, 16))]

    def _read_time_pair(self, address: int, unit: int) -> list[tuple[int, int]] | None:
        """Two times with a fraction, which counts units of ``unit`` nanoseconds."""
        if not address:
            return None
        found = struct.unpack("=qqqq", self._read_memory(address, 32))
        if unit != 1 and not all(0 <= part < 1_000_000 for part in found[1::2]):
            raise OSError(errno.EINVAL, "fraction")
        return [(found[0], found[1] * unit), (found[2], found[3] * unit)]

    # ------------------------------------------------------------------ the egress proxy

    def _connect(self, fd: int, address: int, length: int) -> None:
        """Connect the caller's socket to the egress proxy, and to nothing else."""
        where = self._read_memory(address, 8) if 8 <= length <= 128 else b""
        family, port = struct.unpack_from("=H", where)[0] if where else 0, where[2:4]
        there = (family, int.from_bytes(port, "big"), where[4:8])
        if self._proxy_port is None or there != (socket.AF_INET, self._proxy_port, LOOPBACK):
            raise PermissionError(errno.EACCES, "only the egress proxy")
        try:
            caller_socket = self._caller_socket(fd)
        except PermissionError:
            self._install_connected_socket(fd, where)
            return
        with caller_socket:
            self._check_still_waiting()
            kept = caller_socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)
            caller_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, CONNECT_TIMEOUT)
            try:
                connect(caller_socket.fileno(), where.ljust(16, b"\0"))
            finally:
                caller_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, kept)

    def _caller_socket(self, fd: int) -> socket.socket:
        """A copy of the caller's descriptor, as a socket (pidfd_getfd(2))."""
        process = os.pidfd_open(self._thread_group())
        try:
            return socket.socket(fileno=pidfd_getfd(process, fd))
        finally:
            os.close(process)

    def _install_connected_socket(self, fd: int, where: bytes) -> None:
        """Where a container forbids pidfd_getfd: put a connected socket in its place."""
        with open(f"/proc/{self._pid}/fdinfo/{fd}", "rb") as file:
            text = file.read().partition(b"flags:")[2].split()
        flags = int(text[0], 8)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connected:
            connect(connected.fileno(), where.ljust(16, b"\0"))
            connected.setblocking(not flags & os.O_NONBLOCK)
            added = (self._id, SET_FD, connected.fileno(), fd, flags & os.O_CLOEXEC)
            fcntl.ioctl(self._listener, ADD_FD, struct.pack("=QIIII", *added))

    def _thread_group(self) -> int:
        """The process that the calling thread belongs to."""
        with open(f"/proc/{self._pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Tgid:"):
                    return int(line.split()[1])
        raise ProcessLookupError(errno.ESRCH, "gone")

    # ------------------------------------------------------------------ the caller

    def _read_memory(self, address: int, size: int) -> bytes:
        with open(f"/proc/{self._pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            data = memory.read(size)
        if len(data) != size:
            raise OSError(errno.EFAULT, "memory")
        return data

    def _read_path(self, address: int) -> bytes:
        """A path in the caller's memory, read page by page: the next page may not be mapped."""
        found = b""
        while len(found) < PATH_MAX:
            piece = self._read_memory(address, PAGE - address % PAGE)
            text, end, _ = piece.partition(b"\0")
            found += text
            if end:
                return found
            address += len(piece)
        raise OSError(errno.ENAMETOOLONG, "path")

    def _check_still_waiting(self) -> None:
        """Raises ``OSError`` where the caller has ended: its pid may be another process's, and what
        was read through it not the caller's."""
        fcntl.ioctl(self._listener, IS_VALID, struct.pack("=Q", self._id))


def as_int(value: int) -> int:
    """A C ``int`` among the arguments."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def required(address: int) -> int:
    """An address that must not be null. Raises ``OSError``."""
    if not address:
        raise OSError(errno.EFAULT, "no path")
    return address


def nanoseconds(wanted: tuple[int, int], old: int) -> int:
    seconds, fraction = wanted
    if fraction == UTIME_OMIT:
        return old
    if fraction == UTIME_NOW:
        return time.time_ns()
    if not 0 <= fraction < 1_000_000_000:
        raise OSError(errno.EINVAL, "fraction")
    return seconds * 1_000_000_000 + fraction


def pidfd_getfd(process: int, fd: int) -> int:
    import ctypes

    found: int = ctypes.CDLL(None, use_errno=True).syscall(438, process, fd, 0)
    if found < 0:
        raise OSError(ctypes.get_errno(), "descriptor")
    return found


def connect(fd: int, address: bytes) -> None:
    """connect(2) through the C library: Python's own waits where the socket is not to block."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).connect(fd, address, len(address)):
        raise OSError(ctypes.get_errno(), "connect")
