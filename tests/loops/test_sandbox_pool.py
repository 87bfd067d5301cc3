"""Sandboxes are started once, kept while a turn holds them, and taken away when idle."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.ports.sandbox import SandboxIsolation, SandboxSpec
from loopat_jupyter.loops.sandbox_pool import SandboxPool
from loopat_jupyter.sandboxes.unavailable import UnavailableTier

from .conftest import FakeTier

SPEC = SandboxSpec("loop_a", Path("/workdir"), Path("/home"))


@pytest.fixture
def tier() -> FakeTier:
    tier = FakeTier()
    tier.may_start.set()
    return tier


async def ignore(loop_id: str) -> None: ...


def pool_of(tier, **options) -> SandboxPool:
    return SandboxPool(tier, **{"idle_timeout": 3600, "on_evict": ignore, **options})


async def test_a_start_is_single_flight_and_survives_a_cancelled_caller(tier: FakeTier) -> None:
    pool = pool_of(tier)
    tier.may_start.clear()
    callers = [asyncio.ensure_future(pool.acquire(SPEC)) for _ in range(5)]
    await asyncio.sleep(0)
    callers[3].cancel()
    tier.may_start.set()
    done = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(done[3], asyncio.CancelledError)
    assert len({id(one) for one in done if not isinstance(one, BaseException)}) == 1
    assert tier.starts == 1
    await pool.close()
    assert tier.stops == 1


async def test_where_no_tier_works_each_start_fails_with_the_reason() -> None:
    tier = UnavailableTier("Install bubblewrap.")
    assert tier.isolation == SandboxIsolation("unavailable", False, gaps=("Install bubblewrap.",))
    pool = pool_of(tier)
    for _ in range(2):
        with pytest.raises(SandboxSpawnFailed, match="Install bubblewrap"):
            await pool.acquire(SPEC)
    assert not pool.is_alive("loop_a")
    assert list(await pool.retained()) == []
    await pool.remove("loop_a")
    await pool.close()
    with pytest.raises(SandboxSpawnFailed, match="is stopping"):
        await pool.acquire(SPEC)


async def test_a_dead_sandbox_is_replaced(tier: FakeTier) -> None:
    pool = pool_of(tier)
    first = await pool.acquire(SPEC)
    first.alive = False  # type: ignore[misc]
    assert not pool.is_alive("loop_a")
    second = await pool.acquire(SPEC)
    assert second is not first
    assert pool.is_alive("loop_a")
    await pool.close()


async def test_a_start_that_fails_leaves_nothing_and_can_be_tried_again(tier: FakeTier) -> None:
    pool = pool_of(tier)
    tier.broken = True
    with pytest.raises(SandboxSpawnFailed):
        await pool.acquire(SPEC)
    assert not pool.is_alive("loop_a")
    tier.broken = False
    assert (await pool.acquire(SPEC)).alive
    await pool.close()


async def test_without_a_tier_a_start_fails_with_the_reason() -> None:
    pool = pool_of(UnavailableTier("install bubblewrap"))
    with pytest.raises(SandboxSpawnFailed, match="install bubblewrap"):
        await pool.acquire(SPEC)
    await pool.close()


async def test_idle_time_begins_when_the_last_turn_releases_the_sandbox(tier: FakeTier) -> None:
    gone = asyncio.Event()

    async def on_evict(loop_id: str) -> None:
        gone.set()

    pool = pool_of(tier, idle_timeout=0, on_evict=on_evict)
    pool.hold("loop_a")
    pool.hold("loop_a")
    await pool.acquire(SPEC)
    pool.release("loop_a")
    assert pool.is_alive("loop_a")
    assert not gone.is_set()
    pool.release("loop_a")
    async with asyncio.timeout(10):
        await gone.wait()
    assert not pool.is_alive("loop_a")
    await pool.close()


async def test_a_turn_that_begins_while_eviction_waits_keeps_its_sandbox(tier: FakeTier) -> None:
    pool = pool_of(tier, idle_timeout=0)
    pool.hold("loop_a")
    await pool.acquire(SPEC)
    slot = pool._slots["loop_a"]
    async with slot.lock:  # the eviction must wait for this
        pool.release("loop_a")
        while slot.timer is not None:
            await asyncio.sleep(0)
        pool.hold("loop_a")
    await asyncio.gather(*pool._evictions)
    assert pool.is_alive("loop_a")
    pool.release("loop_a")
    await pool.close()


async def test_a_discarded_loop_is_stopped_first_and_nothing_of_it_is_kept(tier: FakeTier) -> None:
    pool = pool_of(tier)
    await pool.acquire(SPEC)
    await pool.remove("loop_a")
    assert (tier.stops, tier.discarded) == (1, ["loop_a"])
    assert not pool.is_alive("loop_a")
    await pool.close()


async def test_where_no_sandbox_works_nothing_is_kept() -> None:
    pool = pool_of(UnavailableTier("none here"))
    assert await pool.retained() == ()
    await pool.remove("loop_a")
    await pool.close()
