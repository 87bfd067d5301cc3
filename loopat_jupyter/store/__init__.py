"""The store: one SQLite file, one writer thread, migrations.

:class:`Store` is the whole of it. It implements
:class:`loopat_jupyter.loops.ports.store.StorePort`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..loops.models import LoopEvent
from .audit import AuditRepository
from .choices import ChoiceRepository
from .database import Database, JournalMode, StoreCorrupt, StoreTooNew, StoreUnusable
from .events import EventReader
from .history import HistoryRepository
from .lock import HomeLock, HomeLocked
from .loops import LoopRepository
from .recovery import recover
from .tokens import TokenRepository
from .transcript import TranscriptReader
from .turns import TurnRepository

__all__ = [
    "Database",
    "HomeLock",
    "HomeLocked",
    "Store",
    "StoreCorrupt",
    "StoreTooNew",
    "StoreUnusable",
]


class Store:
    """All repositories over one database file.

    Opening it repairs what a crash left behind: :attr:`unfinished` are the loops that have turns
    to run or to resume. Raises :class:`StoreUnusable` where the file cannot be used.
    """

    def __init__(self, path: Path, *, journal: JournalMode = "auto") -> None:
        self._database = Database(path, journal=journal)
        self.loops = LoopRepository(self._database)
        self.turns = TurnRepository(self._database)
        self.choices = ChoiceRepository(self._database)
        self.events = EventReader(self._database)
        self.history = HistoryRepository(self._database)
        self.transcript = TranscriptReader(self._database)
        self.audit = AuditRepository(self._database)
        self.tokens = TokenRepository(self._database)
        self.unfinished: list[str] = self._database.run_now(recover)

    def start(self, on_stored: Callable[[Sequence[LoopEvent]], None]) -> None:
        """Begin to take writes on the running event loop. ``on_stored`` is called with every event
        that was stored, after its commit."""
        self._database.on_stored = on_stored
        self._database.start()

    def close(self) -> None:
        self._database.close()
