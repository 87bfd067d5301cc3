"""loopat for Jupyter: AI-agent loops that live in a Jupyter server.

A *loop* is context + AI agent + working directory, bound together in one sandbox. This package
is a Jupyter server extension (:class:`loopat_jupyter.extension.LoopatExtension`), a client for
its API (:mod:`loopat_jupyter.client`), widgets for notebooks (:mod:`loopat_jupyter.widgets`) and a
command line (``loopat``).

Importing it imports nothing else, so that the client and the command line start fast; the widgets
``LoopChat`` and ``ChoicePrompt`` are loaded when they are asked for.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ChoicePrompt", "LoopChat", "__version__"]
__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where jupyter_server finds the extension."""
    from .extension import LoopatExtension

    return [{"module": "loopat_jupyter", "app": LoopatExtension}]


def __getattr__(name: str) -> Any:
    if name in {"ChoicePrompt", "LoopChat"}:
        from . import widgets

        return getattr(widgets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
