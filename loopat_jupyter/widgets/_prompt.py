"""ChoicePrompt: one choice of a loop, to be answered in a notebook."""

from __future__ import annotations

from typing import Any, Literal

import anywidget
from IPython.display import display
from traitlets import Int, Unicode

from loopat_jupyter.client import Choice

from ._bundle import compose, styles
from ._relay import Relay


class ChoicePrompt(anywidget.AnyWidget):
    """A permission to give or a question to answer, on its own.

    It is disabled and labelled the moment the choice is resolved, here or anywhere else. In
    JupyterLab and Notebook it can be answered while the kernel waits for that very turn::

        loop.ask("tidy up", on_choice=ChoicePrompt.ask)

    Args:
        choice: of a client.
    """

    _esm = compose("prompt.js")
    _css = styles("base.css", "prompt.css")

    loop_id = Unicode(read_only=True, help="The loop's id.").tag(sync=True)
    choice_id = Unicode(read_only=True, help="The choice's id.").tag(sync=True)
    seq = Int(0, read_only=True, help="Number of the event that asked; 0: not known.").tag(
        sync=True
    )

    def __init__(self, choice: Choice) -> None:
        self._relay: Relay | None = None
        super().__init__()
        self.set_trait("loop_id", choice.loop_id)
        self.set_trait("choice_id", choice.id)
        self.set_trait("seq", choice.request.seq or 0)
        self._relay = Relay(choice.loop_id, choice.address, self.send)
        self.on_msg(self._take)

    @classmethod
    def ask(cls, choice: Choice) -> Literal["wait"]:
        """Show the prompt below the running cell, and let the turn wait for its answer.

        An ``on_choice`` for everything that takes one.
        """
        display(cls(choice))
        return "wait"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.choice_id}>"

    def _take(self, widget: Any, message: dict[str, Any], buffers: list[Any]) -> None:
        if self._relay is not None:
            self._relay.take(message)

    def close(self) -> None:
        """End the widget everywhere. The choice stays as it is."""
        if self._relay is not None:
            self._relay.close()
        super().close()
