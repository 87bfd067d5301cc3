"""The command ``loopat``.

It sends requests through :mod:`loopat_jupyter.client` only; ``doctor`` and ``token`` also open the
home of a server on this machine. Commands import what they need when they run, so that
``loopat --help`` is fast. Text from agents and servers is untrusted: it is printed through
:mod:`._terminal` only.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """The ``loopat`` command."""
    import sys

    from ._app import run

    sys.exit(run(sys.argv[1:]))
