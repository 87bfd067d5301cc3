"""LoopChat: a conversation with one loop, in a notebook."""

from __future__ import annotations

from IPython.display import display

from loopat_jupyter.client import Client, Loop, ServerAddress, connect
from loopat_jupyter.notebook.output import (
    Follower,
    current_loop,
    display_transcript,
    find_previous_loop,
    record_cell_loop,
)

from ._base import LoopWidget
from ._esm import compose, styles


class LoopChat(LoopWidget):
    """A chat with a loop: transcript, tool calls, choices, composer.

    Args:
        loop: a loop of a client; or a loop's id, of the server that
            :func:`~loopat_jupyter.client.connect` finds; or nothing: then the loop that this cell
            used before, else the one that the magics use, else a new one.
        title: of a new loop; the cell then uses its previous one only if it has this title.

    Raises:
        ServerNotFound: there is no server to make or find the loop on.
        NotFoundError: the server has no such loop.
        AuthenticationError: the server does not accept the kernel's token.

    An archived loop is shown, and says that it takes no messages. Below the chat is the loop's
    transcript (:mod:`loopat_jupyter.notebook.output`), for when the notebook is opened without a
    kernel.
    """

    _esm = compose("chat.js")
    _css = styles("base.css", "chat.css")

    _followers: tuple[Follower, ...] = ()

    def __init__(self, loop: Loop | str | None = None, *, title: str | None = None) -> None:
        loop_id, address = _resolve(loop, title)
        super().__init__(loop_id, address)
        self._address = address

    def _ipython_display_(self) -> None:
        """Show the widget, and below it the transcript, kept up to date until ``close``."""
        bundle = self._repr_mimebundle_()
        assert bundle is not None, "the widget has a view"
        data, metadata = bundle
        display(data, metadata=metadata, raw=True)
        self._followers += (display_transcript(self._address, self.loop_id),)

    def close(self) -> None:
        """Close the widget everywhere. The loop goes on; the transcript stays as it is."""
        for follower in self._followers:
            follower.close()
        super().close()


def _resolve(loop: Loop | str | None, title: str | None) -> tuple[str, ServerAddress]:
    if isinstance(loop, Loop):
        return loop.id, loop.address
    if loop is not None and not isinstance(loop, str):
        kind = type(loop).__name__
        raise TypeError(f"a LoopChat is of a Loop, a loop's id or nothing, not {kind}")
    with connect() as client:
        found = _loop_of_cell(client, title) if loop is None else client.loops.get(loop)
        return found.id, client.address


def _loop_of_cell(client: Client, title: str | None) -> Loop:
    """The loop that the running cell used before, or else a new one; prints why it is new."""
    previous = find_previous_loop(client)
    loop = previous.loop
    if loop is None and title is None:
        loop = current_loop(client)
    if loop is None or title not in {None, loop.title}:
        if previous.reason is not None:
            print(f"{previous.reason}; this is a new loop".capitalize())
        loop = client.loops.create(title or previous.notebook)
    record_cell_loop(loop.id)
    return loop
