"""Packs the modules that run inside a sandbox into one sealed file in memory. Runs in the server.

The package is not installed in the sandbox: the supervisor and its modules are passed as an
inherited file descriptor, which the sandbox's Python runs as ``/proc/self/fd/N``. Where that
Python is the server's own they are compiled here; where it may be another they are passed as
source. An import hook finds modules by name in the bundle and executes them when they are first
imported, so that the supervisor sends its first frame before it has imported anything.
"""

from __future__ import annotations

import fcntl
import importlib.util
import marshal
import os
from functools import cache
from pathlib import Path

PACKAGE = "loopat_jupyter.sandboxes.inside"
_PACKAGES = ("loopat_jupyter", "loopat_jupyter.sandboxes", PACKAGE)
_FOLDER = Path(__file__).parent
MODULES = {
    f"{PACKAGE}.{name}": _FOLDER / f"{name}.py"
    for name in (
        *("supervisor", "commands", "output_capture", "spawn", "memory_watch", "proxy_listener"),
        *("file_process", "file_ops", "line_endings", "file_search", "protocol"),
    )
} | {"loopat_jupyter.sandboxes.process_tree": _FOLDER.with_name("process_tree.py")}
"""Where each module of the bundle has its source."""

_COMPILED = """
import os, sys
os.write({control}, b"R\\0\\0\\0\\0")
import marshal
CODE = marshal.loads({bundle!r})
"""

_SOURCE = """
import os, sys
os.dup2({errors}, 2)
if sys.version_info < {oldest}:
    sys.exit("the image's Python is %d.%d, and {oldest[0]}.{oldest[1]} is needed"
             % sys.version_info[:2])
os.write({control}, b"R\\0\\0\\0\\0")
CODE = {bundle!r}
"""

_LOADER = """
class BundleImporter:
    def find_spec(self, name, path=None, target=None):
        if name in CODE:
            return type(sys.__spec__)(name, self, is_package=CODE[name] is None)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        if CODE[module.__name__] is not None:
            exec(CODE[module.__name__], module.__dict__)

sys.meta_path.insert(0, BundleImporter())
from {package}.supervisor import main
main({control}, *map(int, sys.argv[1:]))
"""

CONTROL_FD = 3
"""The descriptor of the supervisor's control channel."""
BUNDLE_FD = 4
"""The descriptor of this bundle."""
ERRORS_FD = 5
"""The descriptor that a bundle of sources uses as stderr until the channel works."""
OLDEST_PYTHON = (3, 9)
"""The oldest Python that can run the supervisor's sources."""
RULES_FD = 5
"""The descriptor of the Landlock rules for the processes that the supervisor starts. It is named
in the supervisor's arguments where there are any."""


@cache
def bundle_bytes() -> bytes:
    """The bundle as the content of a ``.pyc`` file for the running Python."""
    code: dict[str, object] = dict.fromkeys(_PACKAGES)
    for name, source in MODULES.items():
        code[name] = compile(source.read_bytes(), f"<{source.stem}>", "exec", optimize=0)
    loader = (_COMPILED + _LOADER).format(
        control=CONTROL_FD, bundle=marshal.dumps(code), package=PACKAGE
    )
    return (
        importlib.util.MAGIC_NUMBER
        + bytes(12)
        + marshal.dumps(compile(loader, "<loopat supervisor>", "exec"))
    )


@cache
def source_bundle() -> bytes:
    """The bundle as a script that any Python from ``OLDEST_PYTHON`` on can run."""
    code: dict[str, str | None] = dict.fromkeys(_PACKAGES)
    for name, source in MODULES.items():
        code[name] = source.read_text()
    script = (_SOURCE + _LOADER).format(
        control=CONTROL_FD,
        errors=ERRORS_FD,
        oldest=OLDEST_PYTHON,
        bundle=code,
        package=PACKAGE,
    )
    return script.encode()


def sealed_file(name: str, content: bytes) -> int:
    """A read-only file in memory (a sealed memfd); the caller owns the descriptor."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
