"""Listing loops: newest first, cursors in both directions, archived ones."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.caller import Caller, expect


@pytest.fixture
def caller(person: Callable[[str], Caller], somebody: str) -> Caller:
    """Somebody who owns no loop yet."""
    return person(somebody)


async def page(caller: Caller, **query: Any) -> dict[str, Any]:
    answer = await caller.get("/loops", params=query)
    assert answer.status_code == 200, answer.text
    listed: dict[str, Any] = answer.json()
    assert set(listed) == {"data", "first_id", "last_id", "has_more"}
    ids = [loop["id"] for loop in listed["data"]]
    assert listed["first_id"] == (ids[0] if ids else None)
    assert listed["last_id"] == (ids[-1] if ids else None)
    listed["ids"] = ids
    return listed


async def test_an_empty_page_has_null_ends(caller: Caller) -> None:
    listed = await page(caller)
    assert (listed["data"], listed["has_more"]) == ([], False)


async def test_the_newest_come_first_and_20_are_the_default(caller: Caller) -> None:
    made = [await caller.loop(title=f"n{n}") for n in range(21)][::-1]
    listed = await page(caller)
    assert (listed["ids"], listed["has_more"]) == (made[:20], True)
    rest = await page(caller, after=listed["last_id"])
    assert (rest["ids"], rest["has_more"]) == (made[20:], False)


async def test_after_gives_the_strictly_older_ones(caller: Caller) -> None:
    made = [await caller.loop() for _ in range(5)][::-1]
    listed = await page(caller, after=made[0], limit=2)
    assert (listed["ids"], listed["has_more"]) == (made[1:3], True)
    listed = await page(caller, after=made[2], limit=2)
    assert (listed["ids"], listed["has_more"]) == (made[3:5], False)
    listed = await page(caller, after=made[4])
    assert (listed["ids"], listed["has_more"]) == ([], False)


async def test_before_gives_the_adjacent_newer_page_still_newest_first(caller: Caller) -> None:
    made = [await caller.loop() for _ in range(5)][::-1]
    listed = await page(caller, before=made[4], limit=2)
    assert (listed["ids"], listed["has_more"]) == (made[2:4], True)
    listed = await page(caller, before=made[2], limit=2)
    assert (listed["ids"], listed["has_more"]) == (made[0:2], False)
    listed = await page(caller, before=made[0])
    assert (listed["ids"], listed["has_more"]) == ([], False)


async def test_walking_both_ways_visits_every_loop_once(caller: Caller) -> None:
    made = [await caller.loop() for _ in range(7)][::-1]
    seen: list[str] = []
    listed = await page(caller, limit=3)
    while True:
        seen += listed["ids"]
        if not listed["has_more"]:
            break
        listed = await page(caller, limit=3, after=listed["last_id"])
    assert seen == made
    back: list[str] = []
    listed = await page(caller, limit=3, before=made[-1])
    while True:
        back = listed["ids"] + back
        if not listed["has_more"]:
            break
        listed = await page(caller, limit=3, before=listed["first_id"])
    assert back == made[:-1]


async def test_archived_loops_are_listed_on_request_only(caller: Caller) -> None:
    made = [await caller.loop() for _ in range(3)][::-1]
    await caller.delete(f"/loops/{made[1]}")
    assert (await page(caller))["ids"] == [made[0], made[2]]
    assert (await page(caller, archived="false"))["ids"] == [made[0], made[2]]
    listed = await page(caller, archived="true")
    assert listed["ids"] == made
    assert [loop["archived"] for loop in listed["data"]] == [False, True, False]


async def test_an_archived_loop_stays_usable_as_a_cursor(caller: Caller) -> None:
    made = [await caller.loop() for _ in range(3)][::-1]
    await caller.delete(f"/loops/{made[1]}")
    assert (await page(caller, after=made[1]))["ids"] == [made[2]]
    assert (await page(caller, before=made[1]))["ids"] == [made[0]]


async def test_has_more_does_not_count_hidden_loops(caller: Caller) -> None:
    made = [await caller.loop() for _ in range(3)][::-1]
    await caller.delete(f"/loops/{made[2]}")
    listed = await page(caller, limit=2)
    assert (listed["ids"], listed["has_more"]) == (made[:2], False)


async def test_a_bad_cursor_is_invalid_cursor(caller: Caller) -> None:
    loop_id = await caller.loop()
    for query in (
        {"after": "loop_unknown"}, {"before": "nonsense"}, {"after": ""},
        {"after": loop_id, "before": loop_id},
    ):  # fmt: skip
        expect(await caller.get("/loops", params=query), 400, "invalid_cursor")


async def test_a_listed_loop_is_the_loop_object_without_runtime_state(caller: Caller) -> None:
    created = await caller.create(title="listed", metadata={"a": "b"})
    listed = (await page(caller))["data"][0]
    for field, value in listed.items():
        if field in created:
            assert value == created[field], field
    assert {"id", "title", "created_at", "metadata", "archived", "engine"} <= set(listed)
