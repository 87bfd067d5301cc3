"""The monitor of one Landlock sandbox: its outer process, forked from the launcher.

There is no pid namespace whose end would kill all processes. Instead the monitor is the subreaper
to which orphans of the sandbox are reparented: when the supervisor or the launcher ends, or on
SIGTERM, it kills everything inside, waits until nothing is left, empties the sandbox's temporary
directory, and ends. Meanwhile it handles the system calls that the filter passes to it
(:mod:`.syscall_handler`).

There are three layers of Landlock rules, each within the one before:

1. the monitor's own: signals reach nothing outside, so that ``kill(-1)`` means the sandbox;
2. the supervisor's: files, TCP, and signals not even to the monitor;
3. the agent's, which the supervisor applies to each process it starts: no ``/proc``, no terminals.
"""

# ruff: noqa: PTH101, PTH123

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
from typing import Any

from loopat_jupyter.sandboxes import process_tree
from loopat_jupyter.sandboxes.landlock import syscall_handler
from loopat_jupyter.sandboxes.launcher.process import check, libc

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
RESTRICT_SELF = 446
SECCOMP = {"x86_64": 317, "aarch64": 277}
SET_MODE_FILTER, NEW_LISTENER = 1, 8


class Terminated(BaseException):
    """The monitor got SIGTERM."""


def prctl(option: int, value: int) -> None:
    check(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def apply_restrictions(restrictions: dict[str, Any], fds: list[int], launcher: int) -> None:
    """Fork the supervisor. Returns in the child, restricted; the monitor never returns.

    ``restrictions`` is described by ``LandlockSandbox.prepare``, ``fds`` are the descriptors that
    its indexes mean, and ``launcher`` is the pid of the parent.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    if restrictions["outer"] is not None:
        restrict_self(fds[restrictions["outer"]])
    monitor_end, supervisor_end = socket.socketpair()
    signal.signal(signal.SIGTERM, on_sigterm)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        monitor_end.close()
        restrict_supervisor(restrictions, fds, supervisor_end)
        return
    try:
        supervisor_end.close()
        run_monitor(restrictions, fds, pid, monitor_end, launcher)
    except BaseException as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(0)


def on_sigterm(*_: object) -> None:
    raise Terminated


def restrict_self(ruleset: int) -> None:
    check(libc.syscall(RESTRICT_SELF, ruleset, 0), "landlock")


# ------------------------------------------------------------------ the supervisor


def restrict_supervisor(
    restrictions: dict[str, Any], fds: list[int], monitor: socket.socket
) -> None:
    """Apply the rules and filters to this process; send the monitor the filter's listener."""
    prctl(PR_SET_DUMPABLE, 1)  # after a change of user a process cannot open its own /proc files
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")
    restrict_self(fds[restrictions["inner"]])
    pids = {restrictions["marks"][0]: os.getpid(), restrictions["marks"][1]: os.getppid()}
    install_filter(restrictions["filters"][0], 0)
    listener = install_filter(fill_in_pids(restrictions["filters"][1], pids), NEW_LISTENER)
    socket.send_fds(monitor, [b"x"], [listener])
    os.close(listener)
    monitor.close()


def install_filter(program: bytes, flags: int) -> int:
    """Install a seccomp filter; with ``NEW_LISTENER`` returns the listener's descriptor."""
    code = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    call = SECCOMP[os.uname().machine]
    return check(libc.syscall(call, SET_MODE_FILTER, flags, described), "seccomp")


def fill_in_pids(program: bytes, pids: dict[int, int]) -> bytes:
    """The program with pids in the place of their marks, and negated ones for process groups."""
    groups = {-mark & 0xFFFFFFFF: -pid & 0xFFFFFFFF for mark, pid in pids.items()}
    values = {**pids, **groups}
    found = bytearray(program)
    for at in range(0, len(program), 8):
        code, yes, no, value = struct.unpack_from("=HBBI", program, at)
        struct.pack_into("=HBBI", found, at, code, yes, no, values.get(value, value))
    return bytes(found)


# ------------------------------------------------------------------ the monitor


def run_monitor(
    restrictions: dict[str, Any],
    fds: list[int],
    supervisor: int,
    channel: socket.socket,
    launcher: int,
) -> None:
    """Handle system calls until the supervisor or the launcher ends; then kill what is left."""
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        prctl(PR_SET_DUMPABLE, 0)
        if os.getppid() == launcher:
            serve(restrictions, supervisor, channel, fds[restrictions["tmp"]])
    except Terminated:
        pass  # what follows is the same as when the supervisor ends
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        kill_all(restrictions["outer"] is not None)
        empty_directory(fds[restrictions["tmp"]])


def serve(restrictions: dict[str, Any], supervisor: int, channel: socket.socket, tmp: int) -> None:
    ended = os.pidfd_open(supervisor)
    _, fds, _, _ = socket.recv_fds(channel, 1, 1)
    channel.close()
    if not fds:
        return
    keep = {0, 1, 2, ended, fds[0], tmp}
    for fd in range(3, 1024):
        if fd not in keep:
            close_if_open(fd)
    # The kernel makes a new inode for an entry of /proc that nobody holds open, and the Landlock
    # rule, which holds the old inode, would not match it.
    pins = [os.open(path, os.O_PATH) for path in restrictions["pin"]]
    handler = syscall_handler.SyscallHandler(
        fds[0], restrictions["calls"], restrictions["roots"], restrictions["proxy_port"]
    )
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(fds[0], select.POLLIN)
    while pins is not None:
        for fd, event in poll.poll():
            if fd == ended:
                return
            if event & select.POLLIN:
                handler.handle_next()
            else:  # no process has the filter any more
                poll.unregister(fd)


def close_if_open(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return


def kill_all(scoped: bool) -> None:
    """Kill everything inside until this process has no child left; it is the subreaper.

    ``scoped``: signals from here reach the sandbox alone, so ``kill(-1)`` kills all processes at
    once, also those that fork faster than ``/proc`` can be read.
    """
    while True:
        if scoped:
            kill(-1)
        else:
            for pid in process_tree.descendants(os.getpid()):
                kill(pid)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def empty_directory(directory: int) -> None:
    """Remove what is in an open directory, as far as possible. Follows no symlink."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        try:
            if is_directory:
                remove_directory(directory, name)
            else:
                os.unlink(name, dir_fd=directory)
        except (OSError, RecursionError):
            continue


def remove_directory(parent: int, name: str) -> None:
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
        opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(fd)
    try:
        empty_directory(opened)
    finally:
        os.close(opened)
    os.rmdir(name, dir_fd=parent)
