"""Which loop a cell used when it ran before.

In this order: this kernel's own memory, by the cell's id; the saved notebook, whose output in the
cell of that id holds a record. A front end that sends no cell id (nbclient, papermill, consoles)
makes every run a first one, which is what a headless run should be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loopat_jupyter.client import Client, Loop, NotFoundError, PermissionDeniedError

from ._saved_notebook import read_notebook

_loops: dict[str, str] = {}
"""Cell id to loop id, for the life of the kernel."""

_current_loop_id: str | None = None
"""The loop that the magics use, whatever the cell; ``None`` before their first message."""


@dataclass(frozen=True, slots=True)
class PreviousLoop:
    """``loop`` is the one that the cell used, if the caller may still use it; else ``reason`` says
    why not, where there was one. ``notebook`` is the notebook's name, where it is known."""

    loop: Loop | None = None
    reason: str | None = None
    notebook: str | None = None


def cell_id() -> str | None:
    """The id of the cell that is running, as the front end sent it."""
    metadata = request().get("metadata")
    found = metadata.get("cellId") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) and found else None


def request() -> dict[str, Any]:
    """The ``execute_request`` of the running cell; empty where there is no kernel."""
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else None
    return parent if isinstance(parent, dict) else {}


def record_cell_loop(loop_id: str) -> None:
    """Remember that the running cell uses this loop, for when it is run again."""
    ident = cell_id()
    if ident is not None:
        _loops[ident] = loop_id


def set_current_loop(loop_id: str | None) -> None:
    """The magics use this loop from now on; ``None`` when they are unloaded."""
    global _current_loop_id
    _current_loop_id = loop_id


def current_loop(client: Client) -> Loop | None:
    """The loop that the magics use, if the caller may still use it; else ``None``."""
    return None if _current_loop_id is None else _look_up(client, _current_loop_id, None).loop


def find_previous_loop(client: Client) -> PreviousLoop:
    """The loop that the running cell used before, looked up with the caller's rights."""
    ident = cell_id()
    if ident is None:
        return PreviousLoop()
    if ident in _loops:
        return _look_up(client, _loops[ident], None)
    notebook = read_notebook(client.address)
    if notebook is None:
        return PreviousLoop()
    record = notebook.record(ident)
    if record is None:
        return PreviousLoop(notebook=notebook.name)
    return _look_up(client, record.loop_id, notebook.name)


def _look_up(client: Client, loop_id: str, notebook: str | None) -> PreviousLoop:
    try:
        loop = client.loops.get(loop_id)
    except NotFoundError:
        return PreviousLoop(None, "the loop of this cell is not on this server", notebook)
    except PermissionDeniedError:
        return PreviousLoop(None, "the loop of this cell belongs to somebody else", notebook)
    if loop.archived:
        return PreviousLoop(None, f"the loop {loop.title!r} of this cell is archived", notebook)
    return PreviousLoop(loop, None, notebook)
