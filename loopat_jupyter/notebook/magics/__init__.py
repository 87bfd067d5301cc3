"""``%load_ext loopat_jupyter``: loops from notebook cells, ``%loop`` and ``%%loop``.

A magic parses its line, runs one turn through the client, and shows it. A mistake in the line, or a
server that cannot be reached, is one sentence and no traceback.
"""

from __future__ import annotations

from ._extension import load_ipython_extension, unload_ipython_extension

__all__ = ["load_ipython_extension", "unload_ipython_extension"]
