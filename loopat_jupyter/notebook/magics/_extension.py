"""What IPython calls to load the magics, and to take them out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%loop``, ``%%loop`` and their completion. Again: nothing happens."""
    from ._completion import Completion
    from ._magics import LoopMagics

    if _loaded(shell) is not None:
        return
    magics = LoopMagics(shell)
    shell.register_magics(magics)
    Completion(magics.session).install(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics out and close their connections; loops and turns are the server's."""
    from loopat_jupyter.notebook.output import set_current_loop

    from ._completion import Completion

    magics = _loaded(shell)
    if magics is None:
        return
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("loop", None)
    shell.magics_manager.registry.pop(type(magics).__name__, None)
    Completion.remove(shell)
    magics.session.close()
    set_current_loop(None)


def _loaded(shell: InteractiveShell) -> Any:
    """The magics that are registered in this shell, if they are."""
    return shell.magics_manager.registry.get("LoopMagics")
