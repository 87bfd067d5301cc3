"""The terminal itself: whether a person is there, and what its encoding lacks.

How untrusted text gets to a terminal is in :mod:`loopat_jupyter.transcript.escape`.
"""

from __future__ import annotations

import sys


def is_interactive() -> bool:
    """Whether a person is at both ends: input and output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def tolerate_narrow_encodings() -> None:
    """Print what the terminal's encoding lacks as ``?`` instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
