"""The launcher: a small process beside the server that starts sandboxes for it.

A child of the server itself would be forked from a large process with threads, would block the
event loop while that lasts, and would die with the *thread* that made it (``--die-with-parent``).
The launcher is also where a root server gives up its privileges: a child of it makes the mounts
that the sandbox needs in a private mount namespace, at paths that the unprivileged user can reach,
and then changes its user, before bubblewrap runs.

It holds one end of a ``SOCK_SEQPACKET`` pair. Each request is one packet (``marshal``) with its
descriptors; the reply is the child's pid and a pidfd, or an error. When the channel ends, the
launcher kills every sandbox that it started and ends.
"""

# ruff: noqa: PTH100, PTH103, PTH115, PTH119, PTH120, S302, S606

from __future__ import annotations

import ctypes
import fcntl
import importlib
import marshal
import os
import select
import signal
import socket
import stat
import sys
from typing import Any

PACKAGE = "loopat_jupyter.sandboxes.launcher"
if __name__ == "__main__":
    # Run as a script: empty packages take the place of the real ones, whose code is not loaded.
    _folder = os.path.dirname(os.path.abspath(__file__))
    sys.modules[f"{PACKAGE}.process"] = sys.modules["__main__"]
    for _name in (PACKAGE, *(PACKAGE.rsplit(".", depth)[0] for depth in (1, 2))):
        sys.modules[_name] = type(sys)(_name)
        sys.modules[_name].__path__ = [_folder]
        _folder = os.path.dirname(_folder)
from loopat_jupyter.sandboxes import process_tree  # noqa: E402
from loopat_jupyter.sandboxes.launcher import idmap  # noqa: E402

STAGE = "/tmp"  # noqa: S108 - covered by a tmpfs, in a private mount namespace
REQUEST_MAX = 60_000
FDS_MAX = 120
CLONE_NEWNS = 0x20000
PR_SET_CHILD_SUBREAPER = 36
MS_BIND, MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV = 4096, 16384, 1 << 18, 2, 4

MODULES = {
    "reach": f"{PACKAGE}.reachable_mounts",
    "restrictions": "loopat_jupyter.sandboxes.landlock.monitor",
}
"""The modules that carry out these parts of a request, by the request's key."""

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """The result of a call of the C library. Raises ``OSError`` where it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    arguments = (a.encode() if a is not None else None for a in (source, target, kind))
    source_b, target_b, kind_b = arguments
    data_b = data.encode() if data is not None else None
    check(libc.mount(source_b, target_b, kind_b, ctypes.c_ulong(flags), data_b), f"mount {target}")


def reopen(fd: int) -> int:
    """Open the same file in this mount namespace: mounts of another one cannot be bound here.

    It is found by its path, without following a symlink. Raises ``OSError`` where device and inode
    show that another file is there now.
    """
    path = os.readlink(f"/proc/self/fd/{fd}")
    found = os.open("/", os.O_PATH)
    for part in path.split("/")[1:]:
        found = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=found) if part else found
    then, now = os.fstat(fd), os.fstat(found)
    if (then.st_dev, then.st_ino) != (now.st_dev, now.st_ino):
        raise OSError(0, "a directory was replaced while the sandbox started")
    return found


def stage_mounts(mounts: list[tuple[int, str, bool]], fds: list[int], user_namespace: int) -> None:
    """Bind the given descriptors at ``STAGE/<name>``, for this process and its children only.

    ``user_namespace`` is the map for those that are to be mapped; see :mod:`.idmap`.
    """
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    sources = {index: reopen(fds[index]) for index, _, _ in mounts}
    mount("loopat", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for index, name, mapped in mounts:
        source, target = sources[index], f"{STAGE}/{name}"
        if stat.S_ISDIR(os.fstat(source).st_mode):
            os.makedirs(target, 0o755)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        if not (mapped and try_bind_mapped(source, target, user_namespace)):
            mount(f"/proc/self/fd/{source}", target, None, MS_BIND | MS_REC)


def try_bind_mapped(source: int, target: str, user_namespace: int) -> bool:
    """Mount with owners mapped; whether that was possible. The server reads on stderr why not."""
    try:
        idmap.bind_mapped(source, target, user_namespace)
    except OSError as error:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{source}"))
        os.write(2, f"the owners of folder {name} cannot be mapped: {error.strerror}\n".encode())
        return False
    return True


def drop_privileges(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def install_fds(request: dict[str, Any], fds: list[int]) -> list[int]:
    """Give descriptors their fixed numbers and close what else is below 512; returns copies of all
    ``fds`` for the child."""
    lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD, 512) for fd in fds]
    os.closerange(3, 512)
    for number, index in request["fixed"]:
        os.dup2(lifted[index], number)
    return lifted


def exec_child(request: dict[str, Any], fds: list[int]) -> None:
    """In the child: make the mounts, drop privileges, and execute the program."""
    launcher = os.getppid()
    os.dup2(fds[request["stderr"]], 2)
    if request["cgroup"] is not None:
        os.write(fds[request["cgroup"]], b"0")
    os.setsid()
    os.umask(0o022)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    fds = install_fds(request, fds)
    if request["stage"]:
        user_namespace = idmap.namespace_for(request["stage"], request["uid"])
        stage_mounts(request["stage"], fds, user_namespace)
    if request["reach"]:
        import_part("reach").make_reachable(request, fds)
    if request["uid"] is not None:
        drop_privileges(request["uid"])
    if request["restrictions"] is not None:
        import_part("restrictions").apply_restrictions(request["restrictions"], fds, launcher)
    argv = [a if isinstance(a, str) else a[0].format(fds[a[1]]) for a in request["argv"]]
    os.execve(argv[0], argv, request["env"])


def import_part(part: str) -> Any:
    return importlib.import_module(MODULES[part])


def launch(request: dict[str, Any], fds: list[int]) -> tuple[int, int]:
    """Start one sandbox; the pid of its outer process and a pidfd.

    The child waits until the pidfd is open. Its exec is not waited for (a mount may hang, and other
    sandboxes are to start): it writes errors to its stderr.
    """
    for name in ("reach", "restrictions"):
        if request[name]:  # imported once here, not in every child
            import_part(name)
    hold, release = os.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            try:
                os.close(release)
                os.read(hold, 1)
                exec_child(request, fds)
            except OSError as error:
                os.write(2, f"{error.strerror or error}\n".encode())
            finally:
                os._exit(127)
        return pid, os.pidfd_open(pid)
    finally:
        os.close(hold)
        os.close(release)


def serve(channel: socket.socket, orphans: OrphanReaper | None) -> None:
    """Serve requests until the server has closed its end."""
    while True:
        if orphans is not None:
            orphans.reap_until_readable(channel)
        packet, fds, _, _ = socket.recv_fds(channel, REQUEST_MAX, FDS_MAX)
        if not packet:
            return
        request = marshal.loads(packet)
        if orphans is not None and "kill_orphans" in request:
            orphans.kill_all()
            channel.send(marshal.dumps({}))
            continue
        try:
            pid, pidfd = launch(request, fds)
        except OSError as error:
            channel.send(marshal.dumps({"error": error.strerror or str(error)}))
        else:
            if orphans is not None:
                orphans.started.add(pid)
            socket.send_fds(channel, [marshal.dumps({"pid": pid})], [pidfd])
            os.close(pidfd)
        finally:
            for fd in fds:
                os.close(fd)


class OrphanReaper:
    """Kills processes that are reparented to this one without having been started by it."""

    def __init__(self) -> None:
        self.started: set[int] = set()
        self._wake, signalled = os.pipe()
        for fd in (self._wake, signalled):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def reap_until_readable(self, channel: socket.socket) -> None:
        """Reap and kill as children end; returns when the channel is readable."""
        while True:
            ready, _, _ = select.select([channel.fileno(), self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if channel.fileno() in ready:
                return

    def _reap(self) -> None:
        """A child has ended; its own children may have been reparented to this process."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            self.started.discard(pid)
        for pid in self._orphans():
            os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Kill orphans until there are none, also those that appear meanwhile."""
        while fallen := self._orphans():
            for pid in fallen:
                os.kill(pid, signal.SIGKILL)
            for pid in fallen:
                os.waitpid(pid, 0)

    def _orphans(self) -> list[int]:
        return [pid for pid in process_tree.children(os.getpid()) if pid not in self.started]


def kill_children() -> None:
    """Kill what was started, and what that leaves behind, until there is nothing.

    Orphans are reparented to this process. A bwrap that is killed in its first moments leaves a
    child that waits for it for ever, so to kill bwrap alone is not enough.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while True:
        for pid in process_tree.children(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        orphans = OrphanReaper() if sys.argv[2:] == ["kill-orphans"] else None
        serve(socket.socket(fileno=int(sys.argv[1])), orphans)
    finally:
        kill_children()
