"""LoopChat: a conversation with one loop, in a notebook."""

from __future__ import annotations

from loopat_jupyter.client import Loop, ServerAddress, connect

from ._base import LoopWidget
from ._bundle import compose, styles


class LoopChat(LoopWidget):
    """A chat with a loop: transcript, tool calls, choices, composer.

    Args:
        loop: a loop of a client; or a loop's id, of the server that
            :func:`~loopat_jupyter.client.connect` finds; or nothing, and a new loop is made there.
        title: of the new loop, where one is made.

    Raises:
        ServerNotFound: there is no server to make or find the loop on.
        NotFoundError: the server has no such loop.
        AuthenticationError: the server does not take the kernel's token.

    An archived loop is shown, and says that it takes no messages.
    """

    _esm = compose("chat.js")
    _css = styles("base.css", "chat.css")

    def __init__(self, loop: Loop | str | None = None, *, title: str | None = None) -> None:
        super().__init__(*_resolve(loop, title))


def _resolve(loop: Loop | str | None, title: str | None) -> tuple[str, ServerAddress]:
    if isinstance(loop, Loop):
        return loop.id, loop.address
    if loop is not None and not isinstance(loop, str):
        kind = type(loop).__name__
        raise TypeError(f"a LoopChat is of a Loop, a loop's id or nothing, not {kind}")
    with connect() as client:
        found = client.loops.create(title) if loop is None else client.loops.get(loop)
        return found.id, client.address
