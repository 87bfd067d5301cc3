"""``%load_ext loopat_jupyter``: loops from notebook cells, ``%loop`` and ``%%loop``.

A magic is a thin way to the client: it parses a line, runs one turn, and shows it. Whatever is a
person's mistake, or a server that is not there, is one sentence and no traceback.
"""

from __future__ import annotations

from ._extension import load_ipython_extension, unload_ipython_extension

__all__ = ["load_ipython_extension", "unload_ipython_extension"]
