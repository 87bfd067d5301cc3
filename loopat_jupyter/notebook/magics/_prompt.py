"""The choice prompts of a running cell: shown while the turn waits, removed when it has ended.

The browser posts the person's answer to the server itself, so the kernel need not be free. The
transcript says what was decided; a widget in a saved notebook would show nothing.
"""

from __future__ import annotations

from typing import Any

from IPython.display import display

from loopat_jupyter.client import Choice


class Prompts:
    """The prompts of one turn, each shown once."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[Any, Any]] = {}

    def show(self, choice: Choice) -> None:
        """Show the prompt below what the cell has shown so far."""
        from loopat_jupyter.notebook.widgets import ChoicePrompt

        if choice.id not in self._shown:
            prompt = ChoicePrompt(choice)
            self._shown[choice.id] = prompt, display(prompt, display_id=True)

    def close(self) -> None:
        """Remove every prompt from the output."""
        for prompt, handle in self._shown.values():
            prompt.close()
            handle.update({"text/plain": ""}, raw=True)
        self._shown.clear()
