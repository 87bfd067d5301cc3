"""Attacks on the tier that shares the host's namespaces, at every version of Landlock.

An older kernel is played by using only what its version knew; what such a version cannot do is
then really not done.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from loopat_jupyter.loops.ports.sandbox import FolderMount, Sandbox
from loopat_jupyter.sandboxes.landlock import probe, ruleset
from loopat_jupyter.sandboxes.landlock.isolation import BY_ABI, isolation
from loopat_jupyter.sandboxes.landlock.probe import PROBE_SCRIPT, explain_errno, try_landlock
from loopat_jupyter.sandboxes.landlock.ruleset import KNOWN_ABI, kernel_abi
from loopat_jupyter.sandboxes.landlock.tier import LandlockTier
from tests.sandboxes.conftest import (
    SECRET,
    LoopatHome,
    bind_to_free_port,
    inside,
    living,
    outside,
    unlike,
)
from tests.sandboxes.tiers import DENIED, TIERS

pytestmark = [
    pytest.mark.skipif(
        TIERS["landlock"].absent() is not None, reason="this kernel offers no Landlock"
    ),
    pytest.mark.slow(12),
]


@pytest.fixture(params=range(1, KNOWN_ABI + 1), ids=lambda abi: f"abi{abi}")
def abi(request: pytest.FixtureRequest) -> int:
    if request.param > kernel_abi():
        pytest.skip(f"this kernel's Landlock is older than version {request.param}")
    version: int = request.param
    return version


@contextlib.asynccontextmanager
async def started(loopat_home: LoopatHome, abi: int) -> AsyncIterator[Sandbox]:
    tier = LandlockTier(loopat_home.settings(), abi)
    sandbox = tier.create(loopat_home.spec())
    await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.stop()
        tier.close()


async def python(sandbox: Sandbox, code: str) -> str:
    return await inside(sandbox, f"python -c {shlex.quote(code)}")


@pytest.fixture
def database(loopat_home: LoopatHome) -> Path:
    loopat_home.home.mkdir()
    path = loopat_home.home / "loopat.db"
    path.write_text(SECRET)
    path.chmod(0o666)
    loopat_home.top.chmod(0o755)
    return path


WAYS = """
import os
def see(name, path):
    try:
        print(name, open(path).read())
    except OSError as error:
        print(name, error.strerror)
database = {database!r}
see("absolute", database)
see("relative", os.path.relpath(database))
see("root", "/proc/self/root" + database)
see("cwd", "/proc/self/cwd/../../../loopat.db")
see("thread", f"/proc/thread-self/root{{database}}")
os.symlink(database, "link")
see("symlink", "link")
for name, make in (("hard link", os.link), ("rename", os.rename)):
    try:
        make(database, "made")
        see(name, "made")
    except OSError as error:
        print(name, error.strerror)
there = os.open(os.path.dirname(database), os.O_PATH)
try:
    print("path descriptor", os.read(os.open("loopat.db", os.O_RDONLY, dir_fd=there), 100))
except OSError as error:
    print("path descriptor", error.strerror)
for fd in range(3, 1024):
    try:
        print("inherited", fd, os.readlink(f"/proc/self/fd/{{fd}}"))
    except OSError:
        pass
"""


async def test_no_path_leads_to_the_homes_database(
    loopat_home: LoopatHome, database: Path, abi: int
) -> None:
    async with started(loopat_home, abi) as sandbox:
        seen = await python(sandbox, WAYS.format(database=str(database)))
    assert SECRET not in seen
    assert len(seen.splitlines()) == 10, seen
    assert [line for line in seen.splitlines() if "inherited" in line] == [
        f"inherited 3 {database.parent}"
    ]


CHANGES = """
import ctypes, os
target = {target!r}
def change(name, call, *arguments):
    try:
        call(*arguments)
        print("CHANGED", name)
    except OSError as error:
        pass
change("truncate", os.truncate, target, 0)
change("chmod", os.chmod, target, 0o777)
change("utime", os.utime, target, (0, 0))
change("utime now", os.utime, target)
change("chown", os.chown, target, os.getuid(), os.getgid())
change("setxattr", os.setxattr, target, "user.x", b"y")
change("remove", os.unlink, target)
change("write", open, target, "r+")
change("empty", lambda: os.open(target, os.O_RDONLY | os.O_TRUNC))
change("make", open, target + ".new", "w")
change("make a directory", os.mkdir, target + ".dir")
change("make a fifo", os.mkfifo, target + ".fifo")
change("rename out", lambda: (open("mine", "w").close(), os.rename("mine", target + ".mine")))
change("link out", lambda: (open("mine", "w").close(), os.link("mine", target + ".mine")))
change("symlink out", os.symlink, "mine", target + ".symlink")
os.symlink(target, "to")
change("chmod a symlink", os.chmod, "to", 0o777)
def held():
    return f"/proc/self/fd/{{os.open(target, os.O_PATH)}}"
change("chmod a descriptor", lambda: os.chmod(held(), 0o777))
change("utime a descriptor", lambda: os.utime(held(), (0, 0)))
"""


async def test_nothing_outside_can_be_changed(
    loopat_home: LoopatHome, database: Path, abi: int
) -> None:
    if os.geteuid() == 0:
        os.chown(database, 64999, 64999)
    before = database.stat()
    names = sorted(p.name for p in loopat_home.home.iterdir())
    async with started(loopat_home, abi) as sandbox:
        assert await python(sandbox, CHANGES.format(target=str(database))) == ""
    after = database.stat()
    assert database.read_text() == SECRET
    for field in ("st_mode", "st_mtime_ns", "st_uid", "st_ctime_ns", "st_nlink"):
        assert getattr(after, field) == getattr(before, field), field
    assert {*names, "loops", "run"} == {p.name for p in loopat_home.home.iterdir()} | set(names)


async def test_a_read_only_folder_cannot_be_changed(loopat_home: LoopatHome, abi: int) -> None:
    folder = loopat_home.top / "data"
    folder.mkdir()
    target = folder / "file"
    target.write_text(SECRET)
    target.chmod(0o666)
    folder.chmod(0o777)
    loopat_home.folders = (FolderMount(folder, "data", write=False),)
    before = target.stat()
    code = CHANGES + "\nown = os.open(target, os.O_RDONLY)\n"
    code += "change('fchmod', os.fchmod, own, 0o700); change('futime', os.utime, own, (0, 0))\n"
    async with started(loopat_home, abi) as sandbox:
        assert await inside(sandbox, "cat data/file") == SECRET
        assert await python(sandbox, code.format(target=str(target))) == ""
    assert target.read_text() == SECRET
    assert target.stat().st_ctime_ns == before.st_ctime_ns
    assert [p.name for p in folder.iterdir()] == ["file"]


OWN = """
import os, stat, time
open("f", "w").close()
os.chmod("f", 0o600)
descriptor = os.open("f", os.O_RDWR)
os.fchmod(descriptor, 0o640)
os.utime("f", (1, 2))
assert (os.stat("f").st_atime, os.stat("f").st_mtime) == (1, 2)
os.utime(descriptor, ns=(3, 4))
assert (os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns) == (3, 4)
os.utime("f")
assert abs(os.stat("f").st_mtime - time.time()) < 60
os.mkdir("d")
os.chmod("d", 0o1777)
os.utime("d", (5, 6))
os.symlink("nowhere", "s")
os.utime("s", (7, 8), follow_symlinks=False)
assert os.lstat("s").st_mtime == 8
os.mkfifo("p")
for missing in ("none", "f/below", ""):
    try:
        os.chmod(missing, 0o600)
        print("no error", missing)
    except (FileNotFoundError, NotADirectoryError):
        pass
inner = os.open("d", os.O_RDONLY)
os.mkdir("in", dir_fd=inner)
os.chmod("in", 0o700, dir_fd=inner)
print(oct(os.stat("f").st_mode), oct(os.stat("d").st_mode), oct(os.stat("d/in").st_mode))
"""


NONSENSE = """
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
for number in ((90, 91, 268, 452, 132, 235, 261, 280, 42) if x86 else (52, 53, 452, 88, 203)):
    for value in (0, 1, 99, -1, 2**63, 2**64 - 1, 2**31, id("x")):
        for other in (0, -1, 2**63 - 1, 16):
            call = [ctypes.c_ulong(v & (2**64 - 1)) for v in (value, other, value, other)]
            assert libc.syscall(number, *call) == -1, number
print("done")
"""


async def test_the_monitor_survives_invalid_arguments(loopat_home: LoopatHome, abi: int) -> None:
    async with started(loopat_home, abi) as sandbox:
        assert await python(sandbox, NONSENSE) == "done\n"
        assert await inside(sandbox, "touch f; chmod 600 f; stat -c %a f") == "600\n"


async def test_the_loops_own_files_can_be_changed(loopat_home: LoopatHome, abi: int) -> None:
    async with started(loopat_home, abi) as sandbox:
        assert await python(sandbox, OWN) == "0o100640 0o41777 0o40700\n"
        moved = "mkdir -p a b; touch -d 2001-02-03 a/f; cp -p a/f a/g; mv a/f b/f; tar cf t.tar a b"
        unpacked = "mkdir c; tar xf t.tar -C c; stat -c %y c/b/f | cut -c1-10"
        assert await inside(sandbox, f"{moved}; {unpacked}") == "2001-02-03\n"


REACH = """
import ctypes, os, socket, struct
def reach(name, call):
    try:
        call()
        print("REACHED", name)
    except OSError:
        pass
def tcp(family=socket.AF_INET, protocol=0):
    return socket.socket(family, socket.SOCK_STREAM, protocol)
reach("tcp", lambda: tcp().connect(("127.0.0.1", {port})))
reach("tcp by any address", lambda: tcp().connect(("0.0.0.0", {port})))
reach("tcp 6", lambda: tcp(socket.AF_INET6).connect(("::ffff:127.0.0.1", {port})))
reach("mptcp", lambda: tcp(protocol=262).connect(("127.0.0.1", {port})))
reach("fast open", lambda: tcp().sendto(b"x", 0x20000000, ("127.0.0.1", {port})))
reach("fast open message", lambda: tcp().sendmsg([b"x"], [], 0x20000000, ("127.0.0.1", {port})))
reach("bind", lambda: tcp().bind(("127.0.0.1", 0)))
reach("listen", lambda: tcp().listen())
reach("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(
    b"x", ("127.0.0.1", {udp})))
reach("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
reach("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    reach("unix path", lambda: socket.socket(socket.AF_UNIX, kind).connect({path!r}))
    reach("unix abstract", lambda: socket.socket(socket.AF_UNIX, kind).connect({abstract!r}))
reach("a unix socket of its own", lambda: socket.socket(socket.AF_UNIX).bind("own"))
reach("a pair's datagram", lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(
    b"x", {path!r}))
reach("the proxy's port elsewhere", lambda: tcp().connect(("127.0.0.2", {proxy_port})))
tcp().connect(("127.0.0.1", {proxy_port}))
waiting = tcp()
waiting.setblocking(False)
if waiting.connect_ex(("127.0.0.1", {proxy_port})) not in (0, 115): print("not connected")
a, b = socket.socketpair()
a.sendall(b"between us")
print(b.recv(100).decode())
"""


async def test_nothing_can_be_reached_but_the_egress_proxy(
    loopat_home: LoopatHome, abi: int
) -> None:
    loopat_home.top.chmod(0o755)
    path = Path("/tmp") / f"loopat-{secrets.token_hex(4)}"
    abstract = f"\0loopat-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.socket(socket.AF_INET))
        tcp_port = bind_to_free_port(tcp, "0.0.0.0")
        tcp.listen()
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp_port = bind_to_free_port(udp, "127.0.0.1")
        listeners = []
        for address in (str(path), abstract):
            unix = stack.enter_context(socket.socket(socket.AF_UNIX))
            unix.bind(address)
            unix.listen()
            listeners.append(unix)
        stack.callback(path.unlink)
        path.chmod(0o777)
        async with started(loopat_home, abi) as sandbox:
            code = REACH.format(
                port=tcp_port,
                udp=udp_port,
                path=str(path),
                abstract=abstract,
                proxy_port=sandbox.proxy_port,
            )
            assert await python(sandbox, code) == "between us\n"
        for listener in (tcp, *listeners):
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
        udp.setblocking(False)
        with pytest.raises(BlockingIOError):
            udp.recv(10)


async def test_without_a_proxy_no_socket_can_be_made(loopat_home: LoopatHome) -> None:
    tier = LandlockTier(loopat_home.settings(), kernel_abi())
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = probe.run_script(tier, loopat_home.spec(), "/nowhere", [server.getsockname()[1]] * 2)
        assert said == "a local port could be reached"
    tier.close()


SIGNALS = """
import ctypes, fcntl, os, signal
libc = ctypes.CDLL(None, use_errno=True)
supervisor, monitor, server = {pids}
def send(name, call):
    try:
        call()
        print("SENT", name)
    except OSError:
        pass
for name, pid in (("supervisor", supervisor), ("monitor", monitor), *{server_too}):
    send(f"kill {{name}}", lambda: os.kill(pid, 9))
    send(f"group of {{name}}", lambda: os.kill(-pid, 9))
    send(f"pidfd of {{name}}", lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 9))
    for call, arguments in ((200, (pid, 9)), (234, (pid, pid, 9))):
        if os.uname().machine == "x86_64" and libc.syscall(call, *arguments) == 0:
            print("SENT", call, name)
send("everybody", lambda: os.kill(-1, 9))
send("owner", lambda: fcntl.fcntl(0, fcntl.F_SETOWN, supervisor))
print("done")
"""


async def test_monitor_and_supervisor_cannot_be_signalled(
    loopat_home: LoopatHome, abi: int
) -> None:
    async with started(loopat_home, abi) as sandbox:
        [record] = (loopat_home.home / "run").glob("*.pid")
        monitor = int(record.read_text().split()[0])
        [supervisor] = psutil.Process(monitor).children()
        server = (("server", os.getpid()),) if abi >= 6 else ()
        pids = (supervisor.pid, monitor, os.getpid())
        seen = await python(sandbox, SIGNALS.format(pids=pids, server_too=server))
        assert seen == "done\n"
        assert await inside(sandbox, "sleep 60 & kill -9 $! && echo own") == "own\n"


async def test_other_processes_show_nothing(
    loopat_home: LoopatHome, abi: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", SECRET)
    code = "import time; time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code, SECRET], stdin=subprocess.DEVNULL)
    attack = (
        f"cd /proc/{other.pid} && cat environ cmdline status maps mem; cat root/etc/hostname; "
        f"ls fd cwd task; cat /proc/*/environ /proc/*/cmdline; readlink exe cwd; ps aux"
    )
    try:
        assert SECRET in outside(attack)
        async with started(loopat_home, abi) as sandbox:
            seen = await inside(sandbox, attack)
            assert SECRET not in seen
            assert "python" not in seen
            traced = "import ctypes; c = ctypes.CDLL(None); print(c.ptrace(16, {}, 0, 0))"
            assert await python(sandbox, traced.format(other.pid)) == "-1\n"
    finally:
        other.kill()
        other.wait()


async def test_other_terminals_cannot_be_opened(loopat_home: LoopatHome, abi: int) -> None:
    main, side = os.openpty()
    try:
        os.fchmod(side, 0o666)
        name = os.ttyname(side)
        async with started(loopat_home, abi) as sandbox:
            seen = await inside(sandbox, f"echo x > {name}; head -c 1 {name}; echo > /dev/ptmx")
            assert len(DENIED.findall(seen)) == 3
    finally:
        os.close(main)
        os.close(side)


HOPPING = """
import os
if os.fork() == 0:
    os.setsid()
    while True:
        if os.fork(): os._exit(0)
"""


async def test_one_that_forks_faster_than_it_can_be_found_ends_too(loopat_home: LoopatHome) -> None:
    if kernel_abi() < 6:
        pytest.skip("without scoped signals this is a listed gap")
    mark = unlike(99)
    async with started(loopat_home, kernel_abi()) as sandbox:
        code = f"# {mark}\n{HOPPING}"
        await sandbox.run(f"exec python -c {shlex.quote(code)}", timeout=10)
    assert living("python", "-c", code) == []


async def test_a_killed_supervisor_leaves_nothing(loopat_home: LoopatHome, abi: int) -> None:
    mark = unlike(98)
    async with started(loopat_home, abi) as sandbox:
        await inside(sandbox, f"setsid sleep {mark} >/dev/null 2>&1 &")
        [record] = (loopat_home.home / "run").glob("*.pid")
        [supervisor] = psutil.Process(int(record.read_text().split()[0])).children()
        supervisor.kill()
        await sandbox.wait_closed()
        assert living("sleep", mark) == []


async def test_monitor_and_supervisor_killed_together_leave_nothing(
    loopat_home: LoopatHome, abi: int
) -> None:
    mark = unlike(97)
    async with started(loopat_home, abi) as sandbox:
        await inside(sandbox, f"setsid sleep {mark} >/dev/null 2>&1 &")
        [record] = (loopat_home.home / "run").glob("*.pid")
        monitor = psutil.Process(int(record.read_text().split()[0]))
        [supervisor] = monitor.children()
        for process in (monitor, supervisor):
            process.suspend()
        monitor.kill()
        with contextlib.suppress(psutil.NoSuchProcess):  # the monitor's death may have ended it
            supervisor.kill()
        await sandbox.wait_closed()
        assert living("sleep", mark) == []


async def test_the_temporary_directory_is_gone_afterwards(loopat_home: LoopatHome) -> None:
    victim = loopat_home.top / "victim"
    victim.mkdir()
    (victim / "kept").write_text("kept")
    async with started(loopat_home, kernel_abi()) as sandbox:
        made = f"cd $TMPDIR; ln -s {victim} link; mkdir -p a/b; echo x > a/b/c; chmod 0 a/b a"
        await inside(sandbox, made)
        assert len(list((loopat_home.home / "run").glob("*.tmp"))) == 1
    assert list((loopat_home.home / "run").iterdir()) == []
    assert (victim / "kept").read_text() == "kept"


async def test_what_a_notebook_does_with_processes_works(loopat_home: LoopatHome) -> None:
    pool = "import multiprocessing as m; print(m.get_context('fork').Pool(2).map(abs, [-1, -2]))"
    loop = "import asyncio; print(asyncio.run(asyncio.sleep(0, 'ran')))"
    async with started(loopat_home, kernel_abi()) as sandbox:
        assert await python(sandbox, pool) == "[1, 2]\n"
        assert await python(sandbox, loop) == "ran\n"
        assert await inside(sandbox, "cat <(echo through)") == "through\n"
        assert "model name" in await inside(sandbox, "cat /proc/cpuinfo") or os.uname().machine


# ------------------------------------------------------------------ messages


def test_what_an_older_version_lacks_is_listed(abi: int) -> None:
    gaps = isolation(abi, root=False).gaps
    assert [gap for since, gap in BY_ABI if since > abi] == [g for g in gaps if g in dict_of_gaps()]


def dict_of_gaps() -> set[str]:
    return {gap for _, gap in BY_ABI}


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(95, "lsm="), (38, "Linux 5.13"), (1, "seccomp=unconfined")],
    ids=["switched off", "not built", "forbidden"],
)
def test_a_kernel_without_landlock_is_refused_with_a_remedy(
    loopat_home: LoopatHome, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def none() -> int:
        raise ruleset.LandlockUnavailable(number)

    monkeypatch.setattr(probe, "kernel_abi", none)
    attempt = try_landlock(loopat_home.settings())
    assert attempt.tier is None
    assert remedy in attempt.probe.fix
    assert explain_errno(number) == (attempt.probe.detail, attempt.probe.fix)


def test_the_probe_names_the_restriction_that_does_not_hold(
    loopat_home: LoopatHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = 'refused("a file outside could be read", lambda: open(secret))'
    assert secret in PROBE_SCRIPT
    broken = PROBE_SCRIPT.replace(secret, secret.replace("open(secret)", "None"))
    monkeypatch.setattr(probe, "PROBE_SCRIPT", broken)
    attempt = try_landlock(loopat_home.settings())
    assert attempt.tier is None
    assert "a file outside could be read" in attempt.probe.detail
    assert list((loopat_home.home / "run").iterdir()) == []
