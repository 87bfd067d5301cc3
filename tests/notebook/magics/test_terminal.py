"""The magics in IPython at a terminal: no kernel, no front end, nothing to update."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.server import JupyterServer

SCRIPT = """
ip = get_ipython()
ip.run_line_magic("load_ext", "loopat_jupyter")
ip.run_line_magic("loop", "new terminal")
ip.run_cell_magic("loop", "", "count 3")
ip.run_cell_magic("loop", "--mode default", "!date")
"""


def test_a_turn_is_shown_once_and_nobody_is_asked(demo_server: JupyterServer, tmp_path: Path):
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environ = {"LOOPAT_URL": demo_server.url, "LOOPAT_TOKEN": demo_server.token}
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "-c", SCRIPT],
        env={**kept, **environ, "HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.count("1\n2\n3\n") == 1, done.stdout
    assert "waits for a person to decide" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
