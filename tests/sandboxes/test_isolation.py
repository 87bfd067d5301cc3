"""What the agent tries, each attack first shown to work outside and then to fail inside."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import FolderMount
from tests.sandboxes.conftest import (
    SECRET,
    LoopatHome,
    Started,
    inside,
    living,
    outer_process,
    outside,
    own_processes,
    unlike,
)
from tests.sandboxes.tiers import DENIED

pytestmark = pytest.mark.slow(35)


def plant(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SECRET)
    return path


# ------------------------------------------------------------------ what can be seen


async def test_the_servers_environment_is_not_there(
    isolated: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_TOKEN", SECRET)
    attack = "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'"
    assert SECRET in outside(attack)
    async with isolated() as sandbox:
        seen = await inside(sandbox, attack)
    assert SECRET not in seen
    assert "JUPYTER" not in seen


async def test_pid_1_shows_no_environment(
    isolated: Started, loopat_home: LoopatHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    assert SECRET in outside(f"cat /proc/$PPID/environ; cat /proc/$$/environ; : {SECRET[:3]}")
    async with isolated() as sandbox:
        assert "Permission denied" in await inside(sandbox, "cat /proc/1/environ")
        if os.geteuid() == 0:  # closed to all other users
            names = {name for p in own_processes(loopat_home) for name in environment_of(p.pid)}
            assert names <= {"PWD", "PATH", "LANG"} | OF_A_CONTAINER
            assert SECRET not in Path(f"/proc/{outer_process(loopat_home).pid}/environ").read_text()


OF_A_CONTAINER = {"IN_IMAGE", "TERM", "container", "HOSTNAME", "LISTEN_FDS", "HOME"}
"""What podman and the image give a container's first process."""


def environment_of(pid: int) -> list[str]:
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return [variable.partition("=")[0] for variable in variables if variable]


async def test_other_loops_are_not_there(isolated: Started, loopat_home: LoopatHome) -> None:
    other = plant(loopat_home.spec().workdir / "notes.txt")
    attack = f"cat {other}; find / -xdev -name notes.txt -exec cat {{}} + 2>/dev/null"
    assert SECRET in outside(f"cat {other}")
    async with isolated() as sandbox:
        assert SECRET not in await inside(sandbox, attack)


async def test_the_homes_database_is_not_there(isolated: Started, loopat_home: LoopatHome) -> None:
    database = plant(loopat_home.home / "loopat.db")
    attack = f"cat {database}; ls -la {loopat_home.home}"
    assert SECRET in outside(attack)
    async with isolated() as sandbox:
        assert SECRET not in await inside(sandbox, attack)
        assert "loopat.db" not in await inside(sandbox, f"ls -la {loopat_home.home} /proc/1/root")


async def test_a_folder_that_holds_the_home_and_the_runtime_directory_shows_neither(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    root = loopat_home.top
    plant(loopat_home.home / "loopat.db")
    plant(root / "share/runtime/jpserver-1.json")
    plant(root / "data.csv")
    loopat_home.masks = (root / "share/runtime",)
    loopat_home.folders = (FolderMount(root, "all", write=False),)
    named = "cat data.csv loopat-home/loopat.db share/runtime/jpserver-1.json"
    attack = f"{named}; grep -rl {SECRET} ."
    assert outside(attack, root).count(SECRET) == 3
    async with isolated() as sandbox:
        seen = await inside(sandbox, "cd all && " + attack)
        assert seen.count(SECRET) == 1
        assert seen.startswith(SECRET)
        assert await inside(sandbox, "ls all/loopat-home/loops 2>/dev/null") == ""


async def test_the_runtime_directory_inside_the_python_environment_is_covered(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    runtime = Path(sys.prefix) / "share/jupyter/runtime-test"
    if not os.access(sys.prefix, os.W_OK):
        pytest.skip("this environment cannot be written to")
    try:
        token = plant(runtime / "jpserver-9.json")
        loopat_home.masks = (runtime,)
        assert SECRET in outside(f"cat {token}")
        async with isolated() as sandbox:
            assert SECRET not in await inside(sandbox, f"cat {token}; ls {runtime}")
    finally:
        token.unlink()
        runtime.rmdir()


async def test_the_hosts_secrets_in_etc_are_not_there(isolated: Started) -> None:
    attack = "cat /etc/hostname /etc/shadow /etc/machine-id /etc/ssh/*"
    async with isolated() as sandbox:
        seen = (await inside(sandbox, attack)).splitlines()
        assert all("Permission denied" in line or "No such file" in line for line in seen)
        assert not {"shadow", "machine-id"} & set((await inside(sandbox, "ls /etc")).split())


async def test_only_what_the_hosts_etc_must_show_is_there(isolated: Started) -> None:
    attack = "cat /etc/passwd"
    names = {entry.name for entry in Path("/etc").iterdir()}
    async with isolated() as sandbox:
        seen = set((await inside(sandbox, "ls /etc")).split())
        assert {"shadow", "hostname", "machine-id", "ssh"} & seen == set()
        assert "/bin/bash" in await inside(sandbox, "getent passwd loop")
        assert len(seen) < len(names)
        assert "nobody" in await inside(sandbox, attack)


async def test_other_processes_are_not_there(isolated: Started) -> None:
    attack = f"ls /proc | grep -x {os.getpid()}; kill -0 {os.getpid()} && echo reached"
    assert "reached" in outside(attack)
    async with isolated() as sandbox:
        assert "reached" not in await inside(sandbox, attack)
        assert len((await inside(sandbox, "ls /proc 2>&- | grep -x '[0-9]*'")).split()) <= 6
        for name in ("cmdline", "status", "environ", "root/etc/hostname", "cwd/pyproject.toml"):
            assert await inside(sandbox, f"cat /proc/{os.getpid()}/{name} 2>/dev/null") == ""


# ------------------------------------------------------------------ the network


async def test_the_servers_port_is_out_of_reach(isolated: Started) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        attack = f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected"
        assert "connected" in outside(attack)
        async with isolated() as sandbox:
            assert "connected" not in await inside(sandbox, attack)


async def test_an_abstract_unix_socket_is_out_of_reach(isolated: Started) -> None:
    name = f"loopat-{secrets.token_hex(4)}"
    code = f"import socket; socket.socket(1).connect('\\0{name}'); print('connected')"
    attack = f"python3 -c {shlex.quote(code)}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        assert "connected" in outside(attack)
        async with isolated() as sandbox:
            assert "connected" not in await inside(sandbox, attack)


async def test_there_is_a_network_namespace(isolated: Started) -> None:
    attack = "readlink /proc/self/ns/net"
    here = outside(attack)
    async with isolated() as sandbox:
        assert await inside(sandbox, attack) != here
        seen = await inside(sandbox, "cat /proc/net/dev | tail -n +3 | cut -d: -f1")
    assert seen.split() == ["lo"]


async def test_there_is_no_network_outside(isolated: Started) -> None:
    udp = "import socket as s; s.socket(2, s.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))"
    async with isolated() as sandbox:
        tcp = await inside(sandbox, "exec 3<>/dev/tcp/192.0.2.1/53")
        assert "unreachable" in tcp or DENIED.search(tcp)
        sent = await inside(sandbox, f"python -c {shlex.quote(udp)}")
        assert "unreachable" in sent or DENIED.search(sent)


# ------------------------------------------------------------------ writing


async def test_nothing_can_be_written_outside_the_workdir(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    target = loopat_home.top / "touched"
    assert outside(f"touch {target} && echo made") == "made\n"
    target.unlink()
    places = (target, "/usr/loopat-x", "/etc/loopat-x", "/loopat-x", "/home/x", f"{sys.prefix}/x")
    async with isolated() as sandbox:
        for place in places:
            assert "made" not in await inside(sandbox, f"touch {place} && echo made"), place
            assert not Path(place).exists()
        for place in (f"{sandbox.workdir}/x", f"{sandbox.home}/x", "${TMPDIR:-/tmp}/x"):
            assert await inside(sandbox, f"touch {place} && echo made") == "made\n"


async def test_a_symlink_leads_nowhere(isolated: Started, loopat_home: LoopatHome) -> None:
    target = plant(loopat_home.top / "outside.txt")
    spec = loopat_home.spec()
    (spec.workdir / "link").symlink_to(target)
    assert SECRET in outside("cat link", spec.workdir)
    async with isolated(spec) as sandbox:
        assert SECRET not in await inside(sandbox, "cat link; echo bad > link")
        with pytest.raises(Exception, match=r"outside|No such"):
            await sandbox.file("write", path="link", text="bad", confined=True)
    assert target.read_text() == SECRET


async def test_folders_are_read_only_or_writable_as_asked(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    for name in ("ro", "rw"):
        plant(loopat_home.top / "data" / name / "file")
    if os.geteuid() == 0:
        (loopat_home.top / "data/ro").chmod(0o777)
    loopat_home.folders = tuple(
        FolderMount(loopat_home.top / "data" / name, name, write=name == "rw")
        for name in ("ro", "rw")
    )
    async with isolated() as sandbox:
        assert await inside(sandbox, "cat ro/file rw/file") == SECRET * 2
        assert DENIED.search(await inside(sandbox, "echo x > ro/new"))
        for change in ("rm ro/file", "chmod 700 ro/file", "touch ro/file", "mv ro/file rw/file"):
            assert DENIED.search(await inside(sandbox, change)), change
        assert await inside(sandbox, "echo x > rw/new && cat rw/new && echo y >> rw/file") == "x\n"
    made = loopat_home.top / "data/rw/new"
    assert made.read_text() == "x\n"
    assert made.stat().st_uid == os.geteuid()


REPLACE = """
import ctypes, os
os.makedirs("own"); open("own/file", "w").write("x"); open("f", "w").write("x")
exchange = lambda a, b: ctypes.CDLL(None).renameat2(-100, a.encode(), -100, b.encode(), 2)
attacks = {
    "swap": lambda: exchange("f", "ro/file"), "file": lambda: os.rename("f", "ro/file"),
    "link in": lambda: os.link("f", "ro/new"), "link out": lambda: os.link("ro/file", "stolen"),
    "swap all": lambda: exchange("own", "ro"), "away": lambda: os.rename("ro", "gone"),
}
for name, attack in attacks.items():
    try: attack()
    except OSError: pass
print("tried")
"""


async def test_renames_and_hard_links_change_nothing_of_a_read_only_folder(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    """A rename over a file, over the folder itself, or away; links into it and out of it."""
    free = plant(loopat_home.top / "free" / "ro" / "file")
    assert (
        outside(f"{sys.executable} -c {shlex.quote(REPLACE)}", loopat_home.top / "free")
        == "tried\n"
    )
    assert not free.exists()
    kept = plant(loopat_home.top / "data" / "ro" / "file")
    kept.parent.chmod(0o777)
    loopat_home.folders = (FolderMount(kept.parent, "ro", write=False),)
    async with isolated() as sandbox:
        assert "tried" in await inside(sandbox, f"python3 -c {shlex.quote(REPLACE)}")
    assert [path.name for path in kept.parent.iterdir()] == ["file"]
    assert kept.read_text() == SECRET
    assert kept.stat().st_nlink == 1


async def test_a_folder_that_became_a_symlink_is_refused(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    plant(loopat_home.top / "secret/file")
    (loopat_home.top / "folder").symlink_to(loopat_home.top / "secret")
    loopat_home.folders = (FolderMount(loopat_home.top / "folder", "folder", write=False),)
    with pytest.raises(SandboxSpawnFailed, match="folder"):
        async with isolated():
            pass


# ------------------------------------------------------------------ privileges


PRIVILEGES = """
import ctypes, json, os, struct
libc = ctypes.CDLL(None)
sets = ctypes.create_string_buffer(24)
assert libc.capget(struct.pack("=Ii", 0x20080522, 0), sets) == 0
found = {"capabilities": struct.unpack("=6I", sets.raw), "uid": os.getuid()}
print(json.dumps({**found, "no_new_privs": libc.prctl(39, 0, 0, 0, 0), "seccomp": libc.prctl(21)}))
"""


async def test_there_are_no_capabilities(isolated: Started) -> None:
    async with isolated() as sandbox:
        seen = json.loads(await inside(sandbox, f"python -c {shlex.quote(PRIVILEGES)}"))
        assert seen["capabilities"] == [0] * 6
        assert (seen["no_new_privs"], seen["seccomp"]) == (1, 2)
        assert seen["uid"] != 0
        assert "must be superuser" in await inside(sandbox, "mount -t tmpfs x /mnt")


@pytest.mark.skipif(os.geteuid() != 0, reason="about a server that is root")
async def test_a_root_servers_sandbox_is_not_root_on_the_host(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    secret = plant(loopat_home.top / "data/key")
    secret.chmod(0o600)
    loopat_home.read_only = (secret.parent,)
    assert SECRET in outside(f"cat {secret}")
    async with isolated() as sandbox:
        assert "Permission denied" in await inside(sandbox, f"cat {secret}")
        for process in own_processes(loopat_home):
            assert set(process.uids()) == {64999}
            assert set(process.gids()) == {64999}
        held = {str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()}
        assert {name for name in held if name.startswith("/")} <= {
            "/dev/null",
            "/memfd:loopat-stderr (deleted)",
            "/proc/1/oom_score_adj",
        }


async def test_no_file_can_be_made_to_run_as_its_owner(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    attack = "cp /bin/true x; chmod 0755 x; chmod u+s x; stat -c %a x; chmod 2755 x; stat -c %a x"
    assert outside(attack, loopat_home.top).split() == ["4755", "2755"]
    created = "import os; os.close(os.open('y', os.O_CREAT | os.O_WRONLY, 0o4755))"
    nameless = (
        "import os; os.close(os.open('.', os.O_TMPFILE | os.O_WRONLY, 0o4755)); print('made')"
    )
    assert outside(f"python3 -c {shlex.quote(nameless)}", loopat_home.top).strip() == "made"
    async with isolated() as sandbox:
        seen = await inside(sandbox, attack)
        assert "755" in seen.split()
        assert not {"4755", "2755"} & set(seen.split())
        for code in (created, nameless):
            assert "PermissionError" in await inside(sandbox, f"python -c {shlex.quote(code)}")


async def test_the_supervisor_cannot_be_starved(isolated: Started) -> None:
    attack = (
        "import os, resource\n"
        "supervisor = os.getppid()\n"
        "for name, call in {\n"
        "    'prlimit': lambda: resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (3, 3)),\n"
        "    'renice': lambda: os.setpriority(os.PRIO_PROCESS, supervisor, 19),\n"
        "    'affinity': lambda: os.sched_setaffinity(supervisor, {0}),\n"
        "}.items():\n"
        "    try: call()\n"
        "    except PermissionError: print('refused', name)\n"
    )
    async with isolated() as sandbox:
        seen = await inside(sandbox, f"python -c {shlex.quote(attack)}")
        assert seen.split() == ["refused", "prlimit", "refused", "renice", "refused", "affinity"]
        mine = attack.replace("supervisor = os.getppid()", "supervisor = 0")
        own = mine.replace("(3, 3)", "(64, 64)")
        assert await inside(sandbox, f"python -c {shlex.quote(own)}") == ""
        assert await inside(sandbox, "echo lives") == "lives\n"


async def test_system_v_memory_is_not_to_be_had(isolated: Started) -> None:
    attack = (
        "import ctypes; c = ctypes.CDLL(None, use_errno=True); "
        "made = c.shmget(0, 4096, 0o1600); "
        "print(made >= 0, ctypes.get_errno()); made < 0 or c.shmctl(made, 0, None)"
    )
    assert outside(f"python3 -c {shlex.quote(attack)}").startswith("True")
    async with isolated() as sandbox:
        assert await inside(sandbox, f"python -c {shlex.quote(attack)}") == "False 1\n"


async def test_a_shut_workdir_is_opened_at_the_next_start(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    spec = loopat_home.spec()
    async with isolated(spec) as sandbox:
        await inside(sandbox, f"chmod 000 {sandbox.workdir}")
    assert not spec.workdir.stat().st_mode & 0o777
    async with isolated(spec) as sandbox:
        assert await inside(sandbox, "pwd; echo x > x") == f"{sandbox.workdir}\n"


async def test_namespaces_do_not_nest(isolated: Started) -> None:
    attack = "unshare -Ur true && echo nested"
    assert "nested" in outside(attack)
    async with isolated() as sandbox:
        assert "nested" not in await inside(sandbox, attack)


SYSCALLS = """
import ctypes, errno, json, os, platform, socket, fcntl, sys
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
def call(number, *args):
    ctypes.set_errno(0)
    failed = libc.syscall(number, *args) < 0
    return errno.errorcode[ctypes.get_errno()] if failed else "ok"
found = {
    "unshare": call(272 if x86 else 97, 0x10000000),
    "io_uring_setup": call(425, 8, 0),
    "bpf": call(321 if x86 else 280, 0, 0, 0),
    "keyctl": call(250 if x86 else 219, 0, -3, 0),
    "userfaultfd": call(323 if x86 else 282, 0),
    "perf_event_open": call(298 if x86 else 241, 0, 0, 0, 0, 0),
    "clone3": call(435, 0, 0),
    "clone_newuser": call(56 if x86 else 220, 0x10000011, 0, 0, 0, 0),
    "personality": call(135 if x86 else 92, 0x0400000),
}
for name, family, kind in (("packet", 17, 3), ("vsock", 40, 1), ("alg", 38, 5)):
    try:
        socket.socket(family, kind)
        found[name] = "ok"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
try:
    fcntl.ioctl(0, 0x5412, b"x")
    found["TIOCSTI"] = "ok"
except OSError as error:
    found["TIOCSTI"] = errno.errorcode[error.errno]
print(json.dumps(found))
"""


async def test_calls_that_widen_the_kernels_surface_are_refused(isolated: Started) -> None:
    async with isolated() as sandbox:
        process = await sandbox.spawn(["python", "-c", SYSCALLS], pty=(24, 200))
        seen = b""
        while data := await process.read():
            seen += data
        found = json.loads(seen)
    no_family = {name: found.pop(name) for name in ("packet", "vsock", "alg")}
    assert found.pop("clone3") == "ENOSYS"
    assert set(no_family.values()) == {"EAFNOSUPPORT"}
    assert set(found.values()) == {"EPERM"}, found


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 is a mode of x86_64")
async def test_another_numbering_of_system_calls_ends_the_process(isolated: Started) -> None:
    code = "import ctypes; print(ctypes.CDLL(None).syscall(0x40000000 + 39))"
    async with isolated() as sandbox:
        result = await sandbox.run(f"exec python -c {shlex.quote(code)}", timeout=10)
    assert result.exit_code == -31


OPENED = """
import os
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
print([fd for fd in range(4096) if is_open(fd)])
"""


async def test_no_descriptor_is_inherited(isolated: Started, loopat_home: LoopatHome) -> None:
    with (loopat_home.top / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        async with isolated() as sandbox:
            command = f"python -S -c {shlex.quote(OPENED)}"
            assert await inside(sandbox, command) == "[0, 1, 2]\n"
            process = await sandbox.spawn(["python", "-S", "-c", OPENED])
            assert (await process.read()).decode() == "[0, 1, 2]\n"


async def test_a_crash_leaves_no_core_and_the_kernels_switches_are_out_of_reach(
    isolated: Started,
) -> None:
    switches = (
        "sys/kernel/core_pattern",
        "sysrq-trigger",
        "sys/vm/drop_caches",
        "sys/fs/suid_dumpable",
    )
    async with isolated() as sandbox:
        assert (
            await inside(sandbox, "ulimit -c; ulimit -c unlimited 2>/dev/null; ulimit -c")
            == "0\n0\n"
        )
        for switch in switches:
            said = await inside(sandbox, f"echo 1 > /proc/{switch} && echo done")
            assert "done" not in said, switch


async def test_another_process_outside_is_not_watched_traced_or_read(isolated: Started) -> None:
    calls = {
        "ptrace": "c.ptrace(16, out, 0, 0)",
        "seize": "c.ptrace(0x4206, out, 0, 0)",
        "madvise": "c.syscall(440, pidfd, 0, 0, 3, 0)",
        "getfd": "c.syscall(438, pidfd, 0, 0)",
        "signal": "c.syscall(424, pidfd, 0, 0, 0)",
        "memory": "c.process_vm_readv(out, 0, 0, 0, 0, 0)",
        "limits": "c.prlimit(out, 7, 0, ctypes.create_string_buffer(16))",
        "namespace": "c.setns(pidfd, 0x20000000)",
    }
    code = (
        f"import ctypes; c = ctypes.CDLL(None); out = {os.getpid()}; "
        "pidfd = c.syscall(434, out, 0); "
        f"print([n for n, r in dict({', '.join(f'{n}={call}' for n, call in calls.items())})"
        ".items() if r >= 0])"
    )
    async with isolated() as sandbox:
        assert await inside(sandbox, f"python -c {shlex.quote(code)}") == "[]\n"


async def test_the_supervisor_cannot_be_killed_stopped_or_traced(isolated: Started) -> None:
    attack = (
        "for s in KILL STOP INT TERM HUP USR1 SEGV ABRT CHLD; do kill -$s $PPID; done; sleep 0.1"
    )
    trace = (
        "cd /proc/$PPID; cat mem maps environ; ls -l fd; echo 0 > oom_adj; "
        "kill -9 -$PPID; ls cwd/ root/"
    )
    async with isolated() as sandbox:
        await inside(sandbox, attack)
        assert await inside(sandbox, "echo still here") == "still here\n"
        assert len(DENIED.findall(await inside(sandbox, trace))) >= 4
        assert await inside(sandbox, "echo still here") == "still here\n"


# ------------------------------------------------------------------ exhaustion


FORKS = """
import os, time
made = []
try:
    for _ in range(200):
        pid = os.fork()
        if pid == 0:
            time.sleep(30)
            os._exit(0)
        made.append(pid)
except OSError:
    pass
print("made", len(made), flush=True)
for pid in made:
    os.kill(pid, 9)
for pid in made:
    os.waitpid(pid, 0)
"""
"""Reaps what it made: the dying ones of one user would count as the next sandbox's neighbours."""


async def test_a_fork_bomb_is_held(isolated: Started, loopat_home: LoopatHome) -> None:
    loopat_home.limit(processes=64)
    attack = f"setsid -w python3 -c {shlex.quote(FORKS)}"
    assert "made 200" in outside(attack)
    async with isolated() as sandbox:
        made = int((await inside(sandbox, attack)).split("made ")[1].split()[0])
        assert made < 64
        bomb = await sandbox.run(":(){ :|:& };:; sleep 30", timeout=1)
        assert bomb.timed_out
        assert (await sandbox.file("resolve", path="."))["inside_workdir"]
    assert not left_over(loopat_home)


def left_over(loopat_home: LoopatHome) -> list[Path]:
    return list((loopat_home.home / "run").glob("*.pid"))


async def test_the_sandboxes_own_memory_is_limited(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    loopat_home.limit(tmp_size=4 << 20)
    async with isolated() as sandbox:
        filler = await inside(sandbox, "head -c 20000000 /dev/zero > /tmp/big; du -m /tmp/big")
        assert "No space left" in filler
        shared = await inside(sandbox, "head -c 20000000 /dev/zero > /dev/shm/big; touch /dev/x")
        assert "No space left" in shared
        assert DENIED.search(shared)


async def test_a_file_cannot_fill_the_disk(isolated: Started, loopat_home: LoopatHome) -> None:
    loopat_home.limit(file_size=8 << 20)
    attack = "head -c 20000000 /dev/zero > big; stat -c %s big; rm -f big"
    assert "20000000" in outside(attack, loopat_home.top)
    async with isolated() as sandbox:
        assert str(8 << 20) in (await inside(sandbox, attack)).split()
        with pytest.raises(Exception, match=r"(?i)too large|took|memory|cut off|filing"):
            await sandbox.file("write", path="f", text="x" * (9 << 20))


async def test_endless_output_is_bounded_and_slows_no_other(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    loopat_home.limit(output=10_000, kept_output=50_000)
    async with isolated() as sandbox:
        pid = (await sandbox.run("exec yes", timeout=5, background=True)).background_pid
        assert await inside(sandbox, "echo quick", timeout=5) == "quick\n"
        flood = await sandbox.run("yes", timeout=1)
        assert flood.timed_out
        assert len(flood.output) < 12_000
        assert flood.output_file is not None
        assert int(await inside(sandbox, f"stat -c %s {flood.output_file}")) == 50_000
        await inside(sandbox, f"kill -9 {pid}")


async def test_memory_is_limited_for_all_processes_together(
    isolated: Started, loopat_home: LoopatHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "the server's own directory"
    here.mkdir()
    monkeypatch.chdir(here)
    loopat_home.limit(memory=200 << 20)
    hog = "x = bytearray(120 << 20); import time; time.sleep(3)"
    command = f"python -c {shlex.quote(hog)} & python -c {shlex.quote(hog)}; wait"
    alone = shlex.quote("bytearray(300 << 20)")
    async with isolated() as sandbox:
        assert "MemoryError" in await inside(sandbox, f"python -c {alone}")
        result = await sandbox.run(command, timeout=30)
        assert "used more than its 0.195 GiB of memory" in result.output
    assert list(here.iterdir()) == []


async def test_a_daemon_does_not_survive_the_stop(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    mark = unlike(100)
    daemon = f"setsid nohup sh -c 'echo > go; exec sleep {mark}' >/dev/null 2>&1"
    attack = f"mkfifo go; ({daemon} &); cat go"
    assert "Permission" not in outside(attack, loopat_home.top)
    while not (survivors := living("sleep", mark)):
        outside("sleep 0.01")
    survivors[0].kill()
    async with isolated() as sandbox:
        await inside(sandbox, attack)
        while not living("sleep", mark):
            await inside(sandbox, "sleep 0.01")
    assert living("sleep", mark) == []


# ------------------------------------------------------------------ what people expect


async def test_the_usual_tools_work(isolated: Started) -> None:
    async with isolated() as sandbox:
        seen = await inside(
            sandbox,
            "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x"
            " && git log --oneline | wc -l; which python; awk 'BEGIN{print 6*7}'",
        )
    lines = seen.splitlines()
    assert lines[0] == "1"
    assert lines[1] == f"{Path(sys.prefix).resolve()}/bin/python"
    assert lines[-1] == "42"


async def test_what_a_notebook_imports_can_be_imported(isolated: Started) -> None:
    code = "import numpy, sys; print(int(numpy.arange(4).sum()), sys.prefix)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, "numpy is one of the test requirements"
    async with isolated() as sandbox:
        assert await inside(sandbox, f"python -c {shlex.quote(code)}") == done.stdout


async def test_what_the_user_installed_can_be_imported_and_run(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    base = loopat_home.top / "local"
    packages = base / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    packages.mkdir(parents=True)
    (packages / "mine.py").write_text("print('imported')")
    (base / "bin").mkdir()
    (base / "bin/tool").write_text("#!/bin/sh\necho ran")
    (base / "bin/tool").chmod(0o755)
    plant(base / "share/keyrings/secret")
    loopat_home.user_base = base
    async with isolated() as sandbox:
        assert await inside(sandbox, "tool") == "ran\n"
        path = await inside(sandbox, "python -c 'import site; print(site.getusersitepackages())'")
        assert path.strip() == str(packages)
        assert SECRET not in await inside(sandbox, f"cat {base}/share/keyrings/secret")
        assert "share" not in await inside(sandbox, f"ls {base}")
        imported = await inside(sandbox, f"PYTHONPATH={packages} python -c 'import mine'")
        assert imported == "imported\n"


async def test_more_read_only_paths_can_be_shown(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    shown = plant(loopat_home.top / "reference/data")
    shown.parent.chmod(0o755)
    loopat_home.read_only = (shown.parent, loopat_home.top / "not-there")
    async with isolated() as sandbox:
        assert await inside(sandbox, f"cat {shown}") == SECRET
        assert DENIED.search(await inside(sandbox, f"touch {shown.parent}/x"))


async def test_a_path_below_var_tmp_can_be_shown(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        shown = plant(Path(place) / "data")
        shown.parent.chmod(0o755)
        loopat_home.read_only = (shown.parent,)
        async with isolated() as sandbox:
            assert await inside(sandbox, f"cat {shown}") == SECRET
            assert set((await inside(sandbox, "ls /var/tmp 2>/dev/null")).split()) <= {
                shown.parent.name
            }


async def test_tmp_is_the_sandboxes_own(isolated: Started) -> None:
    async with isolated() as sandbox:
        assert await inside(sandbox, "echo x > /var/tmp/x && cat /tmp/x") == "x\n"
