"""Subscribers: bounded, dropped when slow, never a gap between replay and live."""

from __future__ import annotations

import asyncio

import pytest

from loopat_jupyter.loops.event_broadcaster import BUFFER_BYTES, EventBroadcaster, SlowConsumer
from loopat_jupyter.loops.models import LoopEvent

from .conftest import Domain


def event(seq: int, size: int = 1, loop: str = "loop_a") -> LoopEvent:
    return LoopEvent(loop, seq, "turn_a", "assistant_delta", "x" * size)


def a_log() -> EventBroadcaster:
    return EventBroadcaster(events=None)  # type: ignore[arg-type]  # nothing is replayed here


async def test_a_subscriber_gets_its_loops_events_in_order() -> None:
    log = a_log()
    with log.subscribe("loop_a") as mine, log.subscribe("loop_b") as other:
        log.publish([event(1), event(2)])
        log.publish([event(3)])
        assert [frame.seq for frame in await mine.next_frames()] == [1, 2, 3]
        other.end()
        assert await other.next_frames() == []
    assert len(log) == 0


async def test_a_slow_subscriber_is_dropped_alone_and_holds_bounded_memory() -> None:
    log = a_log()
    cut = []
    with log.subscribe("loop_a") as slow, log.subscribe("loop_a") as fast:
        slow.on_end(lambda: cut.append(True))
        heard = 0
        for seq in range(1, 60):
            log.publish([event(seq, 100_000)])
            heard += len(await fast.next_frames())
        assert heard == 59
        assert cut == [True]
        assert slow._size <= BUFFER_BYTES + 200_000
        with pytest.raises(SlowConsumer):
            await slow.next_frames()


async def test_one_event_larger_than_the_buffer_still_gets_through() -> None:
    log = a_log()
    with log.subscribe("loop_a") as mine:
        log.publish([event(1, 6 * BUFFER_BYTES)])
        assert [frame.seq for frame in await mine.next_frames()] == [1]


async def test_an_event_is_encoded_once_for_all() -> None:
    log = a_log()
    with log.subscribe("loop_a") as one, log.subscribe("loop_a") as two:
        log.publish([event(1)])
        assert (await one.next_frames())[0].encoded is (await two.next_frames())[0].encoded


async def test_the_wire_form_is_the_contract_s() -> None:
    assert event(7).frame == b"id: 7\nevent: assistant_delta\ndata: x\n\n"


async def test_raw_messages_reach_only_those_who_asked() -> None:
    log = a_log()
    with log.subscribe("loop_a", raw=True) as one, log.subscribe("loop_a") as two:
        assert log.wants_sdk_messages("loop_a")
        log.publish_sdk_message("loop_a", "turn_a", b"raw")
        assert [frame.encoded for frame in await one.next_frames()] == [b"raw"]
        two.end()
        assert await two.next_frames() == []
    assert not log.wants_sdk_messages("loop_a")


async def test_replay_walks_all_pages(domain: Domain) -> None:
    loop = await domain.loop()

    async def script(turn, host):
        await asyncio.gather(*(host.text(str(i)) for i in range(1200)))

    domain.engine.script = script
    turn = await domain.send(loop)
    await domain.until("done", turn)
    seqs = [
        frame.seq
        async for page in domain.broadcaster.replay(loop.loop_id, 0, 1202)
        for frame in page
    ]
    assert seqs == list(range(1, 1203))
    middle = [
        frame.seq
        async for page in domain.broadcaster.replay(loop.loop_id, 10, 20, turn_id=turn)
        for frame in page
    ]
    assert middle == list(range(11, 21))
