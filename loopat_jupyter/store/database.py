"""One SQLite file, one writer thread with group commit, a few reader threads.

Invariants:

* Every change is a *job*: a function of the connection that runs in the writer thread. Jobs run
  in the order in which they were submitted and are committed in groups; a job that raises is
  rolled back alone, the others of its group are not touched.
* A job is *durable* (``synchronous=FULL``: on disk at power loss) or not (``NORMAL``: survives
  ``kill -9``). One durable job makes its group durable.
* What a job stored is published (``on_stored``) on the event loop's thread, after the commit,
  in commit order, before the submitter's await returns. Cancelling the await does not undo it.

On a network file system WAL does not work: there a rollback journal with exclusive locking is
used, and reads go through the writer's connection too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..loops.errors import StoreError
from ..loops.models import LoopEvent
from .network_fs import is_network_file_system
from .schema import MIGRATIONS, migrate

T = TypeVar("T")
JournalMode = Literal["auto", "wal", "rollback"]

GROUP_LIMIT = 256
"""Jobs of one durable commit: they share an fsync."""
QUICK_GROUP_LIMIT = 16
"""Jobs of a commit without one: it costs little, and nobody waits for many others."""
CHECKPOINT_BYTES = 4 << 20
"""Size of the write-ahead log at which it is copied back in the background."""
TRUNCATE_BYTES = 64 << 20
"""Size at which the writer stops to copy all of it, so that it cannot grow without bound."""
QUICK_CHECK_LIMIT = 64 << 20
"""Databases up to this many bytes are checked whole at start; larger ones would delay it."""
CHECKPOINT_RETRY = 10.0
"""Seconds after a checkpoint that failed."""

STOPPED = "The server is stopping. Nothing of this request was kept: send it again later."

log = logging.getLogger(__name__)


class StoreUnusable(Exception):
    """The database file cannot be used. Nothing in it was changed."""


class StoreCorrupt(StoreUnusable):
    pass


class StoreTooNew(StoreUnusable):
    pass


@dataclass(slots=True)
class _Job:
    run: Callable[[sqlite3.Connection, list[LoopEvent]], Any]
    durable: bool
    done: asyncio.Future[Any]


@dataclass(slots=True)
class _JobResult:
    job: _Job
    events: list[LoopEvent]
    value: Any = None
    error: Exception | None = None


class Database:
    """See the module's docstring. ``start`` must be called on the event loop that will use it."""

    def __init__(self, path: Path, *, journal: JournalMode = "auto") -> None:
        self.path = path
        if journal == "auto":
            journal = "rollback" if is_network_file_system(path.parent) else "wal"
        self.journal = journal
        self.on_stored: Callable[[Sequence[LoopEvent]], None] = lambda _events: None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection = self._open()
        self._closed = False
        self._synced = True
        self._no_checkpoint_before = 0.0
        self._wal = path.with_name(f"{path.name}-wal")
        self._checkpoint: Future[None] | None = None
        self._local = threading.local()
        self._reader_connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(3, thread_name_prefix="loopat-reader")
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # ------------------------------------------------------------------ opening

    def _open(self) -> sqlite3.Connection:
        # Made here, because SQLite would make it readable for everybody, and its log like it.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection: sqlite3.Connection | None = None
        try:
            examined = self.path.stat().st_size == 0 or self._preflight()
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=10
            )
            if not examined:
                self._preflight_with(connection)
            self._configure(connection)
            migrate(connection)
        except sqlite3.DatabaseError as error:
            if connection is not None:
                connection.close()
            raise StoreCorrupt(
                f"{self.path} cannot be used as loopat's database ({error}). It was left as it is: "
                "restore it from a backup, or move it away to start with an empty one."
            ) from error
        return connection

    def _preflight(self) -> bool:
        """Look before anything is changed: closing a connection that may write would already
        copy a crashed server's log into the file.

        ``False``: a commit was cut off, which only a connection that may write can roll back.
        """
        journal = self.path.with_name(f"{self.path.name}-journal")
        if journal.exists() and journal.stat().st_size > 0:
            self._refuse_newer(self._version_on_disk())
            return False
        uri = f"{self.path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
            self._preflight_with(connection)
        return True

    def _version_on_disk(self) -> int:
        """``user_version`` as it stands in the file's header."""
        with self.path.open("rb") as file:
            header = file.read(64)
        return int.from_bytes(header[60:64], "big") if header.startswith(b"SQLite format 3") else 0

    def _refuse_newer(self, version: int) -> None:
        if version > len(MIGRATIONS):
            raise StoreTooNew(
                f"{self.path} was written by a newer loopat-jupyter (schema {version}; this "
                f"version knows {len(MIGRATIONS)}). It was left as it is: upgrade loopat-jupyter."
            )

    def _preflight_with(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        self._refuse_newer(version)
        if self.path.stat().st_size <= QUICK_CHECK_LIMIT:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)

    def _configure(self, connection: sqlite3.Connection) -> None:
        if self.journal == "wal":
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        else:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
            connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -8000")
        connection.execute("PRAGMA synchronous = FULL")
        # Checkpoints wait for the disk: they run beside the writer, see _checkpoint_if_due.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_BYTES}")

    # ------------------------------------------------------------------ running

    def start(self) -> None:
        """Start the writer thread for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._write_groups, name="loopat-writer", daemon=True
        )
        self._thread.start()

    def run_now(self, job: Callable[[sqlite3.Connection, list[LoopEvent]], T]) -> T:
        """Run a job before :meth:`start`, in a durable transaction of its own (boot recovery)."""
        assert self._thread is None
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            value = job(self._connection, [])
            self._connection.execute("COMMIT")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        return value

    async def write(
        self, job: Callable[[sqlite3.Connection, list[LoopEvent]], T], *, durable: bool = True
    ) -> T:
        """Run ``job(connection, events)`` in a transaction; ``events`` collects what it stores.

        Raises:
            StoreError: the change could not be kept (disk full, I/O error); nothing of it was.
        """
        assert self._loop is not None, "the database was not started"
        if self._closed:
            raise StoreError(STOPPED)
        done: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(job, durable, done))
        return await done

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a read-only ``query`` off the event loop and return its value."""
        if self.journal == "rollback":
            return await self.write(lambda connection, _events: query(connection), durable=False)
        assert self._loop is not None, "the database was not started"
        if self._closed:
            raise StoreError(STOPPED)
        return await self._loop.run_in_executor(self._readers, self._run_query, query)

    def _run_query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=10,
            )
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            self._reader_connections.append(connection)
        # One transaction, so that a query of several statements sees one state of the store.
        connection.execute("BEGIN")
        try:
            return query(connection)
        finally:
            connection.execute("COMMIT")

    def close(self) -> None:
        """Finish the submitted jobs and close the file. Blocks for the last commit."""
        self._closed = True
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
        self._readers.shutdown()
        for connection in self._reader_connections:
            connection.close()
        self._connection.close()

    # ------------------------------------------------------------------ the writer thread

    def _write_groups(self) -> None:
        closing = False
        while not closing:
            first = self._jobs.get()
            if first is None:
                return
            group, durable = [first], first.durable
            while len(group) < (GROUP_LIMIT if durable else QUICK_GROUP_LIMIT):
                if self._jobs.empty():
                    break
                job = self._jobs.get_nowait()
                if job is None:
                    closing = True
                    break
                group.append(job)
                durable = durable or job.durable
            try:
                outcomes = self._commit(group)
            except Exception as error:  # the thread must live: everybody waits for it
                log.exception("loopat: a commit failed in an unexpected way")
                outcomes = [_JobResult(job, [], error=_store_error(error)) for job in group]
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._deliver, outcomes)
            self._try_checkpoint()

    def _try_checkpoint(self) -> None:
        """A checkpoint that fails (a full disk, say) has lost nothing, and is tried again."""
        if time.monotonic() < self._no_checkpoint_before:
            return
        try:
            self._checkpoint_if_due()
        except (sqlite3.Error, OSError) as error:
            self._no_checkpoint_before = time.monotonic() + CHECKPOINT_RETRY
            log.warning("loopat: the write-ahead log could not be copied back yet: %s", error)

    def _checkpoint_if_due(self) -> None:
        """Copy the write-ahead log back into the database, mostly in another thread.

        A log that is wholly copied starts again at its beginning. Under load that moment never
        comes by itself, because there is always a newer commit: so when the other thread is done,
        the writer copies the little that came meanwhile.
        """
        if self.journal != "wal":
            return
        if self._checkpoint is not None:
            if self._checkpoint.done():
                done, self._checkpoint = self._checkpoint, None
                done.result()
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return
        try:
            size = self._wal.stat().st_size
        except FileNotFoundError:
            return
        if size > TRUNCATE_BYTES:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        elif size > CHECKPOINT_BYTES:
            self._checkpoint = self._readers.submit(self._run_checkpoint)

    def _run_checkpoint(self) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=10)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            connection.close()

    def _commit(self, group: list[_Job]) -> list[_JobResult]:
        connection = self._connection
        durable = any(job.durable for job in group)
        try:
            if durable is not self._synced:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._synced = durable
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._run_job(job) for job in group]
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if len(group) > 1:  # one job too many (a full disk, say) must not fail the others
                return [outcome for job in group for outcome in self._commit([job])]
            return [_JobResult(group[0], [], error=_store_error(error))]
        return outcomes

    def _run_job(self, job: _Job) -> _JobResult:
        connection = self._connection
        outcome = _JobResult(job, [])
        connection.execute("SAVEPOINT job")
        try:
            outcome.value = job.run(connection, outcome.events)
        except Exception as error:
            if not connection.in_transaction:  # SQLite gave the whole group up
                raise
            connection.execute("ROLLBACK TO job")
            outcome.events = []
            outcome.error = _store_error(error) if isinstance(error, sqlite3.Error) else error
        connection.execute("RELEASE job")
        return outcome

    def _deliver(self, outcomes: list[_JobResult]) -> None:
        for outcome in outcomes:
            if outcome.events:
                self.on_stored(outcome.events)
            done = outcome.job.done
            if done.cancelled():
                continue
            if outcome.error is not None:
                done.set_exception(outcome.error)
            else:
                done.set_result(outcome.value)


def _store_error(error: Exception) -> StoreError:
    full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
    what = "its disk is full" if full else str(error)
    failure = StoreError(
        f"The server could not save this: {what}. Nothing of this request was kept; everything "
        "acknowledged before is safe. Free some space and send it again."
    )
    failure.__cause__ = error
    return failure
