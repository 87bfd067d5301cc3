"""What IPython calls to load and unload the magics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%loop``, ``%%loop`` and their completion. A second call does nothing."""
    from ._completion import Completion
    from ._magics import LoopMagics

    if _loaded(shell) is not None:
        return
    magics = LoopMagics(shell)
    shell.register_magics(magics)
    Completion(magics.session).install(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Remove the magics and close their connections; the loops go on in the server."""
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
    """The magics that are registered in this shell; ``None`` if they are not loaded."""
    return shell.magics_manager.registry.get("LoopMagics")
