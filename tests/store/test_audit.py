"""The audit's pages: a loop's own lines, newest first, so many and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopat_jupyter.loops.errors import InvalidCursor
from loopat_jupyter.loops.models import LoopRecord, new_loop_id
from loopat_jupyter.loops.ports.network import AuditEntry
from loopat_jupyter.store import Store
from loopat_jupyter.store import audit as module

NOW = "2026-01-31T12:00:00.000000Z"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    one = Store(tmp_path / "loopat.db")
    one.start(lambda _events: None)
    yield one
    one.close()


async def new_loop(store: Store) -> str:
    loop_id = new_loop_id()
    await store.loops.create(LoopRecord(loop_id, "ada", "t", NOW, {}, (), "default", None))
    return loop_id


def line(loop_id: str, host: str = "a.example", **changed: object) -> AuditEntry:
    given = {"kind": "connect", "port": 443, "verdict": "allowed", **changed}
    return AuditEntry(loop_id=loop_id, started_at=NOW, host=host, **given)  # type: ignore[arg-type]


async def hosts(store: Store, loop_id: str, limit: int = 100) -> list[str]:
    page = await store.audit.page(loop_id, limit=limit, after=None)
    return [one.host for _, one in page.lines]


async def test_a_line_comes_back_as_it_was_kept(store: Store) -> None:
    loop_id = await new_loop(store)
    whole = line(
        loop_id, kind="http", verdict="refused", reason="no", bytes_out=1 << 40, bytes_in=2
    )
    await store.audit.record(whole)
    page = await store.audit.page(loop_id, limit=1, after=None)
    assert [one for _, one in page.lines] == [whole]
    assert not page.has_more


async def test_pages_go_back_in_time_and_miss_nothing(store: Store) -> None:
    loop_id, other = await new_loop(store), await new_loop(store)
    for number in range(5):
        await store.audit.record(line(loop_id, f"n{number}.example"))
        await store.audit.record(line(other, "other.example"))
    seen: list[str] = []
    after, more = None, True
    while more:
        page = await store.audit.page(loop_id, limit=2, after=after)
        seen += [one.host for _, one in page.lines]
        after, more = page.lines[-1][0], page.has_more
    assert seen == [f"n{number}.example" for number in (4, 3, 2, 1, 0)]
    assert (await store.audit.page(loop_id, limit=2, after=after)).lines == []


@pytest.mark.parametrize("after", ["", "net_", "net_x", "net_-1", "42", "net_\u0664", "turn_1"])
async def test_a_cursor_that_is_none_is_refused(store: Store, after: str) -> None:
    with pytest.raises(InvalidCursor):
        await store.audit.page(await new_loop(store), limit=1, after=after)


async def test_a_cursor_beyond_all_numbers_is_the_beginning(store: Store) -> None:
    loop_id = await new_loop(store)
    await store.audit.record(line(loop_id))
    page = await store.audit.page(loop_id, limit=1, after="net_" + "9" * 100)
    assert len(page.lines) == 1


async def test_what_is_no_text_is_kept_as_text(store: Store) -> None:
    loop_id = await new_loop(store)
    await store.audit.record(line(loop_id, "evil\0.example\ud800", reason="\udfff"))
    (host,) = await hosts(store, loop_id)
    assert "\ud800" not in host


async def test_a_line_of_no_loop_is_dropped(store: Store) -> None:
    await store.audit.record(line("loop_none"))
    assert await hosts(store, "loop_none") == []


async def test_every_loop_keeps_its_newest_however_loops_take_turns(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 10)
    monkeypatch.setattr(module, "TRIM_EVERY", 4)
    loops = [await new_loop(store), await new_loop(store)]
    for number in range(40):
        for loop_id in loops:
            await store.audit.record(line(loop_id, f"n{number}.example"))
    for loop_id in loops:
        assert await hosts(store, loop_id) == [f"n{number}.example" for number in range(39, 29, -1)]
