"""The network audit: pages newest first, per loop, and bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loopat_jupyter.loops.errors import InvalidCursor
from loopat_jupyter.loops.network import NetworkRequest
from loopat_jupyter.store import network
from loopat_jupyter.store.database import Database
from loopat_jupyter.store.network import NetworkRepository

LINE = NetworkRequest(
    "loop_a", "2026-01-01T00:00:00Z", "connect", "a.example", 443, "allowed", "", 10, 20
)


@pytest.fixture
async def audit(database: Database) -> NetworkRepository:
    def add(connection, _events) -> None:
        for loop_id in ("loop_a", "loop_b"):
            connection.execute(
                "INSERT INTO loops (loop_id, owner, title, metadata, profiles, vault, folders, "
                "created_at) VALUES (?, 'o', 't', '{}', '[]', 'default', '[]', 't')",
                (loop_id,),
            )

    await database.write(add)
    return NetworkRepository(database)


async def hosts(audit: NetworkRepository, loop_id: str = "loop_a") -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = await audit.page(loop_id, limit=7, after=after)
        found += [line.host for _, line in page.lines]
        if not page.has_more:
            return found
        assert len(page.lines) == 7
        after = page.lines[-1][0]


async def test_a_line_comes_back_as_it_was(audit: NetworkRepository) -> None:
    refused = replace(LINE, kind="http", verdict="refused", reason="Not on the list.", port=0)
    await audit.record(LINE)
    await audit.record(refused)
    page = await audit.page("loop_a", limit=10, after=None)
    assert [line for _, line in page.lines] == [refused, LINE]
    assert all(number.startswith("net_") for number, _ in page.lines)
    assert not page.has_more


async def test_what_cannot_be_stored_as_text_is_cleaned(audit: NetworkRepository) -> None:
    await audit.record(replace(LINE, host="a\ud800\0b", reason="\ud800"))
    ((_, line),) = (await audit.page("loop_a", limit=1, after=None)).lines
    line.host.encode()
    line.reason.encode()


async def test_pages_go_from_the_newest_to_the_oldest_and_keep_to_their_loop(
    audit: NetworkRepository,
) -> None:
    for number in range(20):
        await audit.record(replace(LINE, host=f"h{number}"))
        await audit.record(replace(LINE, loop_id="loop_b", host=f"b{number}"))
    assert await hosts(audit) == [f"h{number}" for number in reversed(range(20))]
    assert await hosts(audit, "loop_b") == [f"b{number}" for number in reversed(range(20))]
    assert await hosts(audit, "loop_c") == []


async def test_a_line_of_a_loop_that_is_not_there_is_nobodys(audit: NetworkRepository) -> None:
    await audit.record(replace(LINE, loop_id="loop_c"))
    assert await hosts(audit, "loop_c") == []
    assert await hosts(audit) == []


@pytest.mark.parametrize("after", ["", "x", "net_", "net_x", "net_-1", "net_1.5", "42", "net_١"])
async def test_what_is_no_id_is_no_cursor(audit: NetworkRepository, after: str) -> None:
    with pytest.raises(InvalidCursor):
        await audit.page("loop_a", limit=1, after=after)


async def test_a_cursor_beyond_everything_is_a_page_of_the_newest(audit: NetworkRepository) -> None:
    await audit.record(LINE)
    for after in ("net_99999", "net_" + "9" * 100):
        assert len((await audit.page("loop_a", limit=1, after=after)).lines) == 1
    assert (await audit.page("loop_a", limit=1, after="net_0")).lines == []


async def test_only_so_many_are_kept_of_each_loop(
    audit: NetworkRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "KEPT", 10)
    monkeypatch.setattr(network, "TRIM_EVERY", 5)
    await audit.record(replace(LINE, loop_id="loop_b", host="kept"))
    for number in range(54):
        await audit.record(replace(LINE, host=f"h{number}"))
    found = await hosts(audit)
    assert 10 <= len(found) < 15
    assert found[0] == "h53"
    assert found == [f"h{number}" for number in range(53, 53 - len(found), -1)]
    assert await hosts(audit, "loop_b") == ["kept"]
