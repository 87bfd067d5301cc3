"""One writer with group commit: order, isolation of failures, announcements, unusable files."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from loopat_jupyter.loops.errors import InvalidCursor, StoreError
from loopat_jupyter.loops.models import LoopEvent
from loopat_jupyter.store.database import Database, StoreCorrupt, StoreTooNew
from loopat_jupyter.store.schema import IS_UNFINISHED, MIGRATIONS


def add(label: str, *, fail: Exception | None = None):
    def job(connection: sqlite3.Connection, stored: list[LoopEvent]) -> str:
        connection.execute(
            "INSERT INTO tokens (token_id, token_hash, owner, label, created_at) "
            "VALUES (?, ?, 'o', ?, 't')",
            (label, label, label),
        )
        stored.append(LoopEvent("loop", 1, "turn", label, "{}"))
        if fail is not None:
            raise fail
        return label

    return job


def labels(connection: sqlite3.Connection) -> list[str]:
    return [label for (label,) in connection.execute("SELECT label FROM tokens ORDER BY n")]


async def test_jobs_run_in_order_and_are_announced_in_order_before_they_return(database) -> None:
    heard: list[str] = []
    database.on_stored = lambda events: heard.extend(event.name for event in events)
    results = await asyncio.gather(*(database.write(add(str(i))) for i in range(300)))
    expected = [str(i) for i in range(300)]
    assert results == expected
    assert heard == expected
    assert await database.read(labels) == expected


async def test_a_failing_job_is_rolled_back_alone(database) -> None:
    heard: list[str] = []
    database.on_stored = lambda events: heard.extend(event.name for event in events)
    done = await asyncio.gather(
        database.write(add("a")),
        database.write(add("b", fail=InvalidCursor("no"))),
        database.write(add("a")),  # not unique
        database.write(add("c")),
        return_exceptions=True,
    )
    assert done[0] == "a"
    assert isinstance(done[1], InvalidCursor)
    assert isinstance(done[2], StoreError)
    assert done[3] == "c"
    assert heard == ["a", "c"]
    assert await database.read(labels) == ["a", "c"]


async def test_what_was_submitted_is_kept_though_nobody_waits(database) -> None:
    task = asyncio.ensure_future(database.write(add("a")))
    await asyncio.sleep(0)  # let it submit
    task.cancel()
    await database.write(add("b"))
    assert await database.read(labels) == ["a", "b"]


async def test_an_unchanged_file_opens_again_with_everything_in_it(tmp_path) -> None:
    path = tmp_path / "loopat.db"
    for label in ("a", "b"):
        database = Database(path)
        database.start()
        await database.write(add(label))
        database.close()
    assert sqlite3.connect(path).execute("SELECT COUNT(*) FROM tokens").fetchone() == (2,)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"x" * 9000]
)
def test_a_corrupt_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "loopat.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="left as it is"):
        Database(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_pages_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "loopat.db"
    Database(path).close()
    raw = bytearray(path.read_bytes())
    raw[4096 * 2 : 4096 * 6] = os.urandom(4096 * 4)
    path.write_bytes(raw)
    with pytest.raises(StoreCorrupt):
        Database(path)
    assert path.read_bytes() == bytes(raw)


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "loopat.db"
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNew, match="upgrade"):
        Database(path)
    assert path.read_bytes() == before


async def test_a_full_disk_refuses_the_write_and_keeps_the_rest(tmp_path: Path) -> None:
    database = Database(tmp_path / "loopat.db")
    database.start()
    await database.write(add("before"))
    # A file size limit stands for the full disk: SQLite meets it the same way, at its write.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))
        with pytest.raises(StoreError, match="Nothing of this request was kept"):
            await database.write(add("x" * (1 << 20)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    await database.write(add("after"))
    assert await database.read(labels) == ["before", "after"]
    database.close()


@pytest.mark.parametrize("journal", ["wal", "rollback"])
def test_a_kill_in_the_middle_of_a_commit_is_rolled_back(tmp_path: Path, journal) -> None:
    path = tmp_path / "loopat.db"
    Database(path, journal=journal).close()
    code = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 1'); c.execute('PRAGMA cache_spill = 1')\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "for i in range(2000):\n"
        "    c.execute('INSERT INTO tokens (token_id, token_hash, owner, label, created_at) '\n"
        "              'VALUES (?, ?, ?, ?, ?)', (str(i), str(i), 'o', 'x' * 500, 't'))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    if journal == "rollback":
        assert path.with_name("loopat.db-journal").stat().st_size > 0
    database = Database(path, journal=journal)
    assert database.run_now(lambda connection, _events: labels(connection)) == []
    database.close()


def test_nobody_else_can_read_the_file_or_its_log(tmp_path: Path) -> None:
    path = tmp_path / "loopat.db"
    database = Database(path)
    modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
    database.close()
    assert set(modes.values()) == {0o600}, modes


async def test_unfinished_turns_are_found_by_their_partial_index(database: Database) -> None:
    """Else each message to a long loop would look at all of its turns."""

    def plan(connection: sqlite3.Connection) -> str:
        rows = connection.execute(
            f"EXPLAIN QUERY PLAN SELECT n FROM turns WHERE loop_n = 1 AND {IS_UNFINISHED} "
            "AND state IN ('running', 'waiting') ORDER BY n LIMIT 1"
        )
        return " ".join(row[3] for row in rows)

    assert "USING INDEX turns_unfinished" in await database.read(plan)
