"""A Jupyter server that ends with the command that started it, however that command ends.

Run as ``python -m loopat_jupyter.cli._demo_server_main APP ARGUMENTS…``: stdin is a pipe whose other
end the parent holds. Its end means that the parent is gone (also by ``kill -9``), and is turned
into the SIGTERM that Jupyter stops on. Nothing is ever read from it.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _end_with_parent(pipe: int) -> None:
    while os.read(pipe, 4096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    lifeline = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    app = sys.argv[1]
    sys.argv = [app, *sys.argv[2:]]
    runpy.run_module(app, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
