"""Tries the tier ``landlock`` on this host: starts a real sandbox and tests its restrictions."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxSpec
from loopat_jupyter.sandboxes.landlock import seccomp
from loopat_jupyter.sandboxes.landlock.ruleset import LandlockUnavailable, kernel_abi
from loopat_jupyter.sandboxes.landlock.tier import LandlockTier
from loopat_jupyter.sandboxes.launcher.client import base_python
from loopat_jupyter.sandboxes.runtime.probe import Attempt, TierProbe
from loopat_jupyter.sandboxes.runtime.settings import SandboxSettings

PASSED = "loopat-probe-passed"
PROBE_SCRIPT = """
import os, sys
def refused(what, call):
    try:
        call()
    except OSError:
        return
    os.write(2, (what + "\\n").encode())
    os._exit(1)
def reach(port):
    import _socket
    _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).connect(("127.0.0.1", int(port)))
secret = sys.argv[1]
refused("a file outside could be read", lambda: open(secret))
refused("a file outside could be written to", lambda: open(secret, "a"))
refused("a file outside could be emptied", lambda: os.truncate(secret, 0))
refused("the mode of a file outside could be changed", lambda: os.chmod(secret, 0o644))
refused("a local port could be reached", lambda: reach(sys.argv[2]))
refused("the monitor could be signalled", lambda: os.kill(os.getppid(), 0))
try:
    with open("probe", "w") as file:
        file.write("x")
    os.chmod("probe", 0o600)
    reach(sys.argv[3])
except OSError as error:
    os.write(2, f"what must work does not: {error.strerror}\\n".encode())
    os._exit(1)
os.write(2, b"PASSED\\n")
""".replace("PASSED", PASSED)
NOT_BUILT = "this kernel has no Landlock; Linux 5.13 or later, built with it, is needed"
SWITCHED_OFF = (
    "Landlock is built into this kernel but switched off; add landlock to the kernel's parameter "
    "lsm= (see /sys/kernel/security/lsm)"
)
FORBIDDEN = (
    "the container's system call filter forbids Landlock; use a newer container runtime, or start "
    "it with --security-opt seccomp=unconfined"
)
NO_NUMBERS = "run the server on x86-64 or aarch64; elsewhere system calls cannot be filtered"
FILTER = (
    "the kernel or the container does not let the monitor read the arguments of system calls; set "
    "the kernel's kernel.yama.ptrace_scope to 1 or 0, and allow the system call seccomp"
)


def explain_errno(number: int) -> tuple[str, str]:
    """What the kernel's error number means, and the remedy."""
    if number == errno.EOPNOTSUPP:
        return "Landlock is switched off", SWITCHED_OFF
    if number == errno.ENOSYS:
        return "there is no Landlock", NOT_BUILT
    return f"Landlock is forbidden ({os.strerror(number)})", FORBIDDEN


def try_landlock(settings: SandboxSettings) -> Attempt:
    """See :data:`loopat_jupyter.sandboxes.runtime.probe.Try`."""
    if not seccomp.supported():
        detail = "system calls cannot be filtered on this machine's architecture"
        return Attempt(None, TierProbe("landlock", False, detail, NO_NUMBERS))
    try:
        abi = kernel_abi()
    except LandlockUnavailable as refusal:
        return Attempt(None, TierProbe("landlock", False, *explain_errno(refusal.errno)))
    tier = LandlockTier(settings, abi)
    try:
        probe(tier, settings.run_dir)
    except (SandboxSpawnFailed, OSError) as error:
        tier.close()
        detail = (error.message if isinstance(error, SandboxSpawnFailed) else str(error)).rstrip(
            "."
        )
        return Attempt(None, TierProbe("landlock", False, detail, how_to_fix(detail)))
    detail = f"a sandbox was started and its restrictions held (Landlock version {abi})"
    return Attempt(tier, TierProbe("landlock", True, detail))


def how_to_fix(detail: str) -> str:
    """The remedy for a failed probe; none for ``NOT_REACHABLE``, which names its own."""
    return "" if "LOOPAT_HOME" in detail else FILTER


def probe(tier: LandlockTier, run_dir: Path) -> None:
    """Start a sandbox with the restrictions that loops get, and try to break each. Blocks.

    Raises ``SandboxSpawnFailed`` with the restriction that did not hold, or the kernel's error.
    """
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="probe-", dir=run_dir) as directory,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as proxy,
    ):
        directories = [Path(directory) / name for name in ("workdir", "home")]
        for path in directories:
            path.mkdir()
        secret = Path(directory) / "secret"
        secret.write_text("")
        secret.chmod(0o666)
        spec = SandboxSpec(Path(directory).name, directories[0], directories[1])
        ports = [listener.getsockname()[1] for listener in (server, proxy)]
        output = run_script(tier, spec, str(secret), ports)
    if output != PASSED:
        raise SandboxSpawnFailed(
            output.splitlines()[-1] if output else "the sandbox ended silently"
        )


def run_script(tier: LandlockTier, spec: SandboxSpec, secret: str, ports: list[int]) -> str:
    """Run the probe's script in a sandbox; what it wrote to stderr. The second port is the one of
    its egress proxy."""
    sandbox = tier.create(spec)
    sandbox.proxy_port = ports[1]
    code = f"import os; os.chdir({str(spec.workdir)!r})\n{PROBE_SCRIPT}"
    python = [base_python(), "-I", "-S", "-B", "-c", code]
    try:
        return tier.probe_output(sandbox, [*python, secret, *map(str, ports)])
    finally:
        sandbox.remove_tmp()
