"""What one turn costs the disk, counted: commits, and rows that are read.

The engine is the built-in one with a scripted model, the store the real one, and the sandbox the
test's own directory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.conversation import add_turns
from loopat_jupyter.loops.models import LoopRecord
from tests.loops.builtin_engine import OneToolModel, builtin
from tests.loops.conftest import Domain

__all__ = ["builtin"]

ONE_TOOL_TURN = 7
"""Accepted; begun; the model's call; its result; the text about it; the last response; done."""


@contextmanager
def counted_commits(domain: Domain) -> Iterator[list[str]]:
    """The statements by which the store's writer commits."""
    commits: list[str] = []
    connection = domain.store._database._connection

    def trace(statement: str) -> None:
        if statement == "COMMIT":
            commits.append(statement)

    connection.set_trace_callback(trace)
    try:
        yield commits
    finally:
        connection.set_trace_callback(None)


async def test_a_turn_with_one_tool_call_is_few_commits(builtin: Domain) -> None:
    loop = await builtin.loop()
    with counted_commits(builtin) as commits:
        turn = await builtin.send(loop, "hi", permission_mode="bypassPermissions")
        await builtin.until("done", turn)
    assert builtin.names(turn) == [
        "started",
        "tool_call",
        "tool_result",
        "assistant_delta",
        "done",
    ]
    assert len(commits) == ONE_TOOL_TURN


@contextmanager
def counted_rows(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """The rows that the store's queries fetch, and the steps of SQLite's machine that they take."""
    counted = {"rows": 0, "steps": 0}
    database = domain.store._database
    run_query = database._run_query

    def count_row(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        counted["rows"] += 1
        return row

    def count_steps() -> int:
        counted["steps"] += 10
        return 0

    def counting(query: Any) -> Any:
        def counted_query(connection: sqlite3.Connection) -> Any:
            connection.row_factory = count_row
            connection.set_progress_handler(count_steps, 10)
            try:
                return query(connection)
            finally:
                connection.row_factory = None
                connection.set_progress_handler(None, 0)

        return run_query(counted_query)

    monkeypatch.setattr(database, "_run_query", counting)
    yield counted
    monkeypatch.setattr(database, "_run_query", run_query)


async def test_a_message_to_a_long_loop_reads_about_as_much_as_one_to_a_short_loop(
    builtin: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 of these turns are more than is read for a window of this size."""
    monkeypatch.setattr(OneToolModel, "window", 32_000)
    costs = []
    for count in (50, 500):
        loop = await builtin.loop()
        await add_turns(builtin.store, loop, count)
        await _message(builtin, loop)  # which records where the conversation begins from now on
        with counted_rows(builtin, monkeypatch) as counted:
            await _message(builtin, loop)
        costs.append(counted)
    short, long = costs
    # A page may end up to 31 turns beyond the last that is needed; the short loop has not so many.
    assert 100 < long["rows"] <= short["rows"] * 1.25
    assert long["steps"] <= short["steps"] * 1.25


async def test_the_first_message_that_finds_a_loop_too_long_counts_its_turns_and_reads_few(
    builtin: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OneToolModel, "window", 32_000)
    loop = await builtin.loop()
    await add_turns(builtin.store, loop, 300)
    with counted_rows(builtin, monkeypatch) as counted:
        await _message(builtin, loop)
    assert 100 < counted["rows"] < 300


async def _message(domain: Domain, loop: LoopRecord) -> None:
    turn = await domain.send(loop, "hi", permission_mode="bypassPermissions")
    await domain.until("done", turn)
