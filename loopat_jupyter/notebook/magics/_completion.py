"""Tab completion on a line of ``%loop`` or ``%%loop``: commands, options, loops, variables.

The titles of loops are requested from the server at most every :data:`MAX_AGE` seconds; while it is
slow or cannot be reached there is no completion instead of a frozen editor.
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

MAX_AGE = 5.0
TIMEOUT = 1.0
"""Seconds that one completion waits for the server."""
LOOP_LIMIT = 100
KEYS = ("%loop", "%%loop")


class Completion:
    """The completer of one IPython shell."""

    def __init__(self, session: MagicsSession) -> None:
        self._session = session
        self._names: list[str] = []
        self._requested_at = float("-inf")
        self._request: threading.Thread | None = None

    def install(self, shell: InteractiveShell) -> None:
        for key in KEYS:
            shell.set_hook("complete_command", self.complete, str_key=key)

    @staticmethod
    def remove(shell: InteractiveShell) -> None:
        for key in KEYS:
            shell.strdispatchers["complete_command"].strs.pop(key, None)

    def complete(self, shell: Any, event: Any) -> list[str]:
        """The possible completions of the word at the cursor."""
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
        """The titles of the loops, each as one word, newest first."""
        running = self._request is not None and self._request.is_alive()
        if not running and time.monotonic() - self._requested_at > MAX_AGE:
            self._request = threading.Thread(
                target=self._request_names, name="loopat-names", daemon=True
            )
            self._request.start()
        if self._request is not None:
            self._request.join(TIMEOUT)
        return self._names

    def _request_names(self) -> None:
        try:
            with Client(find_server(), retry=RetryPolicy(attempts=1)) as client:
                page = client.loops.page(limit=LOOP_LIMIT)
        except LoopatError:  # no server or no token: no completion
            self._names = []
        else:
            words = (one_word(loop.title) or loop.id for loop in page.data)
            self._names = list(dict.fromkeys(words))
        self._requested_at = time.monotonic()
