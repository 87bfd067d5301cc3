"""LoopChat: a conversation with one loop, in a notebook."""

from __future__ import annotations

from typing import Any

import anywidget
from traitlets import Unicode

from loopat_jupyter.client import Loop, ServerAddress, connect

from ._bundle import compose, styles
from ._relay import Relay


class LoopChat(anywidget.AnyWidget):
    """A chat with a loop: transcript, tool calls, choices, composer.

    Args:
        loop: a loop of a client; or a loop's id, of the server that :func:`connect` finds; or
            nothing, and a new loop is made there.
        title: of the new loop, where one is made.

    Raises:
        ServerNotFound: there is no server to make or find the loop on.
        NotFoundError: the server has no such loop.
        AuthenticationError: the server does not take the kernel's token.

    An archived loop is shown, and says that it takes no messages.
    """

    _esm = compose("chat.js")
    _css = styles("base.css", "chat.css")

    loop_id = Unicode(read_only=True, help="The loop's id.").tag(sync=True)

    def __init__(self, loop: Loop | str | None = None, *, title: str | None = None) -> None:
        loop_id, address = _resolve(loop, title)
        self._relay: Relay | None = None
        super().__init__()
        self.set_trait("loop_id", loop_id)
        self._relay = Relay(loop_id, address, self.send)
        self.on_msg(self._take)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.loop_id}>"

    def _take(self, widget: Any, message: dict[str, Any], buffers: list[Any]) -> None:
        if self._relay is not None:
            self._relay.take(message)

    def close(self) -> None:
        """End the widget everywhere. The loop and its turns go on."""
        if self._relay is not None:
            self._relay.close()
        super().close()


def _resolve(loop: Loop | str | None, title: str | None) -> tuple[str, ServerAddress]:
    if isinstance(loop, Loop):
        return loop.id, loop.address
    if loop is not None and not isinstance(loop, str):
        raise TypeError(
            f"a LoopChat is of a Loop, a loop's id or nothing, not {type(loop).__name__}"
        )
    with connect() as client:
        found = client.loops.create(title) if loop is None else client.loops.get(loop)
        return found.id, client.address
