"""Tab on a line of ``%loop`` or ``%%loop``: commands, options, loops, variables.

The names of loops are the server's; they are asked for at most every :data:`FRESH` seconds, and
a server that is slow or away gives no completion instead of a frozen editor.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from loopat_jupyter.client import Client, LoopatError, RetryPolicy, find_server

from ._arguments import COMMANDS, MODES, ON_CHOICE, cell_parser, command_parser, options_of
from ._lookup import one_word

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ._session import MagicsSession

FRESH = 5.0
PATIENCE = 1.0
"""Seconds that a person waits for the server at most."""
AT_MOST = 100
KEYS = ("%loop", "%%loop")


class Completion:
    """Answers IPython's completer for one shell."""

    def __init__(self, session: MagicsSession) -> None:
        self._session = session
        self._names: list[str] = []
        self._asked = float("-inf")
        self._asking: threading.Thread | None = None

    def install(self, shell: InteractiveShell) -> None:
        for key in KEYS:
            shell.set_hook("complete_command", self.complete, str_key=key)

    @staticmethod
    def remove(shell: InteractiveShell) -> None:
        for key in KEYS:
            shell.strdispatchers["complete_command"].strs.pop(key, None)

    def complete(self, shell: Any, event: Any) -> list[str]:
        """What the word at the cursor may become."""
        before = event.text_until_cursor.split()
        if before and not event.text_until_cursor[-1:].isspace():
            before.pop()
        if not before:
            return []
        magic, words = before[0], before[1:]
        offered = self._cell(words, shell) if magic.startswith("%%") else self._line(words)
        return sorted(offered)

    def _cell(self, words: list[str], shell: Any) -> Iterable[str]:
        match words[-1] if words else "":
            case "--loop" | "-l":
                return self.names()
            case "--mode" | "-m":
                return MODES
            case "--on-choice":
                return ON_CHOICE
            case "--attach" | "-a":
                return [name for name in shell.user_ns if not name.startswith("_")]
            case "--var" | "-v":
                return []
        return options_of(cell_parser())

    def _line(self, words: list[str]) -> Iterable[str]:
        if not words:
            return list(COMMANDS)
        if words[0] not in COMMANDS:
            return []
        options = options_of(command_parser(words[0]))
        named = words[0] in {"use", "stop", "status", "cost"}
        return [*options, *(self.names() if named else [])]

    def names(self) -> list[str]:
        """The loops, each as one word, newest first."""
        running = self._asking is not None and self._asking.is_alive()
        if not running and time.monotonic() - self._asked > FRESH:
            self._asking = threading.Thread(target=self._ask, name="loopat-names", daemon=True)
            self._asking.start()
        if self._asking is not None:
            self._asking.join(PATIENCE)
        return self._names

    def _ask(self) -> None:
        try:
            with Client(find_server(), retry=RetryPolicy(attempts=1)) as client:
                page = client.loops.page(limit=AT_MOST)
        except LoopatError:  # no server, no token: there is nothing to offer
            self._names = []
        else:
            words = (one_word(loop.title) or loop.id for loop in page.data)
            self._names = list(dict.fromkeys(words))
        self._asked = time.monotonic()
