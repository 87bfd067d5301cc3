"""The process of the demo's server: it stops when its parent exits, however that happens.

Run as ``python -m loopat_jupyter.cli._demo_server_main APP ARGUMENTS…``. Stdin is a pipe whose
other end the parent keeps open and never writes to. At its end (also after ``kill -9`` of the
parent) the process sends itself SIGTERM, on which Jupyter stops.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _terminate_when_parent_exits(pipe: int) -> None:
    while os.read(pipe, 4096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    parent_pipe = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_terminate_when_parent_exits, args=(parent_pipe,), daemon=True).start()
    app = sys.argv[1]
    sys.argv = [app, *sys.argv[2:]]
    runpy.run_module(app, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
