"""The public address of the ipywidgets: ``from loopat_jupyter.widgets import LoopChat``."""

from __future__ import annotations

from .notebook.widgets import ChoicePrompt, LoopChat

__all__ = ["ChoicePrompt", "LoopChat"]
