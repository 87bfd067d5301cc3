"""The choice prompt of the notebook's front end, while a cell runs.

The browser posts the person's answer to the server itself, so the kernel need not be free.
"""

from __future__ import annotations

from loopat_jupyter.client import Choice, Loop


def show_prompt(loop: Loop, choice: Choice) -> bool:
    """Show the prompt below the cell. False where it cannot be shown."""
    return False
