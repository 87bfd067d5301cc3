"""loopat for Jupyter: AI-agent loops that live in a Jupyter server.

A *loop* is context + AI agent + working directory, bound together in one sandbox. This package
is a Jupyter server extension (:class:`loopat_jupyter.extension.LoopatExtension`), a client for
its API (:mod:`loopat_jupyter.client`), widgets and magics for notebooks
(:mod:`loopat_jupyter.widgets`, ``%load_ext loopat_jupyter``) and a command line (``loopat``).

Importing it imports nothing else, so that the client and the command line start fast; the widgets
``LoopChat`` and ``ChoicePrompt`` are loaded when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = [
    "ChoicePrompt",
    "LoopChat",
    "__version__",
    "load_ipython_extension",
    "unload_ipython_extension",
]
__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where jupyter_server finds the extension."""
    from .extension import LoopatExtension

    return [{"module": "loopat_jupyter", "app": LoopatExtension}]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext loopat_jupyter``: the magics ``%loop`` and ``%%loop``."""
    from .notebook.magics import load_ipython_extension as load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """``%unload_ext loopat_jupyter``."""
    from .notebook.magics import unload_ipython_extension as unload

    unload(shell)


def __getattr__(name: str) -> Any:
    if name in {"ChoicePrompt", "LoopChat"}:
        from .notebook import widgets

        return getattr(widgets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
