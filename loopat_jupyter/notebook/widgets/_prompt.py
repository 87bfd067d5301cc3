"""ChoicePrompt: one choice of a loop, to be resolved in a notebook."""

from __future__ import annotations

from typing import Literal

from IPython.display import display
from traitlets import Int, Unicode

from loopat_jupyter.client import Choice

from ._base import LoopWidget
from ._esm import compose, styles


class ChoicePrompt(LoopWidget):
    """A permission or a question by itself, without a chat around it.

    It is disabled and labelled as soon as the choice is resolved, here or anywhere else. In
    JupyterLab and Notebook it can be resolved while the kernel waits for that very turn::

        loop.ask("tidy up", on_choice=ChoicePrompt.ask)

    Args:
        choice: of a client.
    """

    _esm = compose("prompt.js")
    _css = styles("base.css", "prompt.css")

    choice_id = Unicode(read_only=True, help="The choice's id.").tag(sync=True)
    seq = Int(0, read_only=True, help="Number of the asking event; 0: not known.").tag(sync=True)

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice.loop_id, choice.address)
        self.set_trait("choice_id", choice.id)
        self.set_trait("seq", choice.request.seq or 0)

    @classmethod
    def ask(cls, choice: Choice) -> Literal["wait"]:
        """Show the prompt below the running cell, and leave the turn waiting: an ``on_choice``."""
        display(cls(choice))
        return "wait"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.choice_id}>"
