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
            spoke to before, else the one that the magics speak to, else a new one.
        title: of a new loop; the cell then takes up none but one that is called so.

    Raises:
        ServerNotFound: there is no server to make or find the loop on.
        NotFoundError: the server has no such loop.
        AuthenticationError: the server does not take the kernel's token.

    An archived loop is shown, and says that it takes no messages. Below it stands the story of the
    loop (:mod:`loopat_jupyter.notebook.output`): what a notebook shows that is
    opened without a kernel.
    """

    _esm = compose("chat.js")
    _css = styles("base.css", "chat.css")

    _stories: tuple[Follower, ...] = ()

    def __init__(self, loop: Loop | str | None = None, *, title: str | None = None) -> None:
        loop_id, address = _resolve(loop, title)
        super().__init__(loop_id, address)
        self._address = address

    def _ipython_display_(self) -> None:
        """The widget, and below it the story, kept up to date for as long as the widget lives."""
        bundle = self._repr_mimebundle_()
        assert bundle is not None, "the widget has a view"
        data, metadata = bundle
        display(data, metadata=metadata, raw=True)
        self._stories += (display_transcript(self._address, self.loop_id),)

    def close(self) -> None:
        """End the widget everywhere. The loop and its turns go on, the story stays as it is."""
        for story in self._stories:
            story.close()
        super().close()


def _resolve(loop: Loop | str | None, title: str | None) -> tuple[str, ServerAddress]:
    if isinstance(loop, Loop):
        return loop.id, loop.address
    if loop is not None and not isinstance(loop, str):
        kind = type(loop).__name__
        raise TypeError(f"a LoopChat is of a Loop, a loop's id or nothing, not {kind}")
    with connect() as client:
        found = _of_cell(client, title) if loop is None else client.loops.get(loop)
        return found.id, client.address


def _of_cell(client: Client, title: str | None) -> Loop:
    """The loop that the running cell spoke to before, or a new one; which of them is said."""
    earlier = find_previous_loop(client)
    loop = earlier.loop
    if loop is None and title is None:
        loop = current_loop(client)
    if loop is None or title not in {None, loop.title}:
        if earlier.reason is not None:
            print(f"{earlier.reason}; this is a new loop".capitalize())
        loop = client.loops.create(title or earlier.notebook)
    record_cell_loop(loop.id)
    return loop
