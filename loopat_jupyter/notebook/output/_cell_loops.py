"""Which loop a cell spoke to when it ran before.

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

_present: str | None = None
"""The loop that the magics speak to, whatever the cell; ``None`` before their first word."""


@dataclass(frozen=True, slots=True)
class PreviousLoop:
    """``loop``: what the cell spoke to, if it still may; else ``reason``, where there was one.
    ``notebook`` is the notebook's name, where it is known."""

    loop: Loop | None = None
    reason: str | None = None
    notebook: str | None = None


def cell_id() -> str | None:
    """The id of the cell that is running, as the front end sent it."""
    metadata = request().get("metadata")
    found = metadata.get("cellId") if isinstance(metadata, dict) else None
    return found if isinstance(found, str) and found else None


def request() -> dict[str, Any]:
    """The message that asked to run the present cell; empty where there is no kernel."""
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else None
    return parent if isinstance(parent, dict) else {}


def record_cell_loop(loop_id: str) -> None:
    """The running cell speaks to this loop, and will when it is run again."""
    ident = cell_id()
    if ident is not None:
        _loops[ident] = loop_id


def set_current_loop(loop_id: str | None) -> None:
    """The magics speak to this loop from here on; ``None``: to none, they are taken out."""
    global _present
    _present = loop_id


def current_loop(client: Client) -> Loop | None:
    """The loop that the magics speak to, if the caller still may; else ``None``."""
    return None if _present is None else _look_up(client, _present, None).loop


def find_previous_loop(client: Client) -> PreviousLoop:
    """What the running cell spoke to before, looked up and still the caller's."""
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
