"""Watching a loop: snapshot, cursors, ownership, slow readers."""

import asyncio
import socket
from collections.abc import Sequence
from urllib.parse import urlparse

import pytest

from tests.support.caller import Caller, expect
from tests.support.invariants import by_turn
from tests.support.mock_model import Gate, Hold, MockModel, Text, bash
from tests.support.sse import WAIT, EventStream, StreamEnded

pytestmark = pytest.mark.slow(6)


async def test_an_idle_loop_is_watched_without_a_snapshot_across_turns(api: Caller) -> None:
    loop_id = await api.loop()
    async with api.watch(loop_id) as watching:
        await watching.until("ping")
        for n in range(3):
            await asyncio.gather(watching.until("done"), api.turn(loop_id, f"m{n}"))
    assert watching.names.count("started") == 3
    assert "snapshot" not in watching.names
    assert [e.seq for e in watching.stored] == list(range(1, len(watching.stored) + 1))


async def test_a_running_turn_begins_with_a_snapshot_of_its_text(
    api: Caller, model: MockModel
) -> None:
    gate = Gate()
    script = model.script([Text("so "), Text("far"), Hold(gate), Text(" so good")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message()) as running:
        while running.text != "so far":
            await running.next()
        async with api.watch(loop_id) as watching:
            first = await watching.event()
            assert (first.name, first.seq) == ("snapshot", None)
            assert first.data == {
                "turn_id": running.stored[0].data["turn_id"],
                "assistant_text_so_far": "so far",
                "pending_choice_id": None,
            }
            gate.open()
            await watching.until("done")
            assert [e.name for e in watching.content] == ["snapshot", "assistant_delta", "done"]
            assert watching.text == " so good"
        await running.rest()


async def test_a_snapshot_and_what_follows_it_give_the_whole_text(
    api: Caller, model: MockModel
) -> None:
    gates = [Gate() for _ in range(6)]
    parts = [part for n, gate in enumerate(gates) for part in (Text(f"{n} "), Hold(gate))]
    script = model.script([*parts, Text("end")])
    loop_id = await api.loop()

    async def watch_late(joined: asyncio.Event) -> str:
        async with api.watch(loop_id) as watching:
            snapshot = await watching.event()
            joined.set()
            await watching.until("done")
            return str(snapshot.data["assistant_text_so_far"]) + watching.text

    async with api.send(loop_id, script.message()) as running, asyncio.TaskGroup() as group:
        watchers = []
        for gate in gates:
            await gate.reached()
            joined = asyncio.Event()
            watchers.append(group.create_task(watch_late(joined)))
            await asyncio.wait_for(joined.wait(), WAIT)
            gate.open()
        await running.rest()
    assert {task.result() for task in watchers} == {running.text}


async def test_a_snapshot_holds_the_whole_pending_choice(api: Caller, model: MockModel) -> None:
    script = model.script([Text("May I? "), bash("echo hi")], [Text("thanks")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as running:
        required = await running.until("requires_choice")
        async with api.watch(loop_id) as watching:
            snapshot = await watching.event()
            assert snapshot.name == "snapshot"
            assert snapshot.data == {
                "turn_id": required.data["turn_id"],
                "assistant_text_so_far": "May I? ",
                "pending_choice_id": required.data["choice_id"],
                "choice": required.data,
            }
            state = await api.state(loop_id)
            assert state["current_turn"]["pending_choice_id"] == required.data["choice_id"]
            await api.choose(loop_id, required.data["choice_id"], allow=True)
            await watching.until("done")
        await running.rest()


async def test_resuming_at_every_cursor_gives_exactly_the_rest(
    api: Caller, model: MockModel
) -> None:
    script = model.script([Text("a"), bash("true"), Text("b")], [Text("c")])
    loop_id = await api.loop()
    await api.turn(loop_id, script.message(), mode="auto")
    await api.turn(loop_id, "second")
    log = await api.log(loop_id)
    for cursor in range(len(log)):
        async with api.watch(loop_id, after_seq=cursor) as by_query:
            assert [await by_query.event() for _ in log[cursor:]] == log[cursor:]
        async with api.watch(loop_id, last_event_id=cursor) as by_header:
            assert [await by_header.event() for _ in log[cursor:]] == log[cursor:]


async def test_a_cursor_at_the_newest_event_waits_for_what_comes(api: Caller) -> None:
    loop_id = await api.loop()
    await api.turn(loop_id, "first")
    newest = (await api.log(loop_id))[-1].seq
    async with api.watch(loop_id, after_seq=newest) as watching:
        assert (await watching.next()).name == "ping"
        await asyncio.gather(watching.until("done"), api.turn(loop_id, "second"))
        assert watching.stored[0].seq == newest + 1  # type: ignore[operator]


async def test_a_cursor_in_a_running_turn_gets_no_snapshot(api: Caller, model: MockModel) -> None:
    gate = Gate()
    script = model.script([Text("a"), Text("b"), Hold(gate), Text("c")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message()) as running:
        await gate.reached()
        async with api.watch(loop_id, after_seq=1) as watching:
            assert (await watching.event()).data["text"].startswith("a")
            gate.open()
            await watching.until("done")
            assert watching.text == "abc"
        await running.rest()


async def test_the_header_wins_over_the_query(api: Caller) -> None:
    loop_id = await api.loop()
    await api.turn(loop_id, "hello")
    async with api.watch(loop_id, after_seq=0, last_event_id=2) as watching:
        assert (await watching.event()).seq == 3


@pytest.mark.parametrize("cursor", ["-1", "abc", "1.5", "999", "", "1e3", "+1", "٣", "9" * 40])
async def test_a_cursor_that_is_no_sequence_number_is_invalid_cursor(
    api: Caller, cursor: str
) -> None:
    loop_id = await api.loop()
    await api.turn(loop_id, "hello")
    answer = await api.get(f"/loops/{loop_id}/events", params={"after_seq": cursor})
    expect(answer, 400, "invalid_cursor")
    if cursor.isascii():
        headers = {"Last-Event-ID": cursor}
        expect(await api.get(f"/loops/{loop_id}/events", headers=headers), 400, "invalid_cursor")


async def test_a_cursor_beyond_an_empty_log_is_invalid(api: Caller) -> None:
    loop_id = await api.loop()
    answer = await api.get(f"/loops/{loop_id}/events", params={"after_seq": "1"})
    expect(answer, 400, "invalid_cursor")
    async with api.watch(loop_id, after_seq=0) as watching:
        assert (await watching.next()).name == "ping"


async def test_replaying_from_zero_rebuilds_the_conversation(api: Caller, model: MockModel) -> None:
    loop_id = await api.loop()
    for n in range(3):
        await api.turn(loop_id, model.script([Text(f"answer {n}")]).message(f"question {n}"))
    told = [
        (events[0].data["content"], "".join(e.data.get("text", "") for e in events))
        for events in by_turn(await api.log(loop_id)).values()
    ]
    rows = await api.history(loop_id)
    assert told == [
        (u["content"], a["content"]) for u, a in zip(rows[::2], rows[1::2], strict=True)
    ]


async def test_watchers_joining_at_any_moment_see_no_gap_and_no_duplicate(
    api: Caller, model: MockModel
) -> None:
    gate = Gate()
    script = model.script([*(Text(f"{n} ") for n in range(300)), Hold(gate), Text("end")])
    loop_id = await api.loop()

    async def follow(cursor: int) -> list[int | None]:
        async with api.watch(loop_id, after_seq=cursor) as watching:
            await watching.until("done")
            return [e.seq for e in watching.stored]

    async with api.send(loop_id, script.message()) as running:
        await running.until("started")
        async with asyncio.TaskGroup() as group:
            followers = []
            for _ in range(10):
                await running.next()
                cursor = running.stored[-1].seq
                assert cursor is not None
                followers.append((cursor, group.create_task(follow(cursor))))
            gate.open()
            await running.rest()
    last = running.stored[-1].seq
    assert last is not None
    for cursor, task in followers:
        assert task.result() == list(range(cursor + 1, last + 1))


async def test_a_stream_of_an_archived_loop_replays(api: Caller) -> None:
    loop_id = await api.loop()
    before = await api.turn(loop_id, "hello")
    await api.delete(f"/loops/{loop_id}")
    assert await api.log(loop_id) == before


async def test_a_reader_that_reads_too_slowly_is_disconnected_and_others_go_on(
    api: Caller, model: MockModel, api_token: str
) -> None:
    chunk, gates = "x" * 262_144, [Gate() for _ in range(80)]
    script = model.script([step for gate in gates for step in (Text(chunk), Hold(gate))])
    loop_id = await api.loop()
    target = urlparse(api.url(f"/loops/{loop_id}/events?after_seq=0"))
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((target.hostname, target.port))
        slow.sendall(
            f"GET {target.path}?{target.query} HTTP/1.1\r\nHost: {target.netloc}\r\n"
            f"Authorization: Bearer {api_token}\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        async with api.watch(loop_id, after_seq=0) as fast:
            events, _ = await asyncio.gather(
                api.turn(loop_id, script.message()), keep_up(fast, gates, len(chunk))
            )
            assert events[-1].name == "done"
            assert fast.text == chunk * 80
        slow.settimeout(30)
        received = await asyncio.to_thread(drain, slow)
    assert received < len(chunk) * 80, "the slow reader was never disconnected"


async def keep_up(stream: EventStream, gates: Sequence[Gate], size: int) -> None:
    """Read to the end of the turn. The model goes on when this reader has what it said: what is
    too slow here is the other reader, and not a machine that has much to do."""
    read = 0
    while (event := await stream.event()).name != "done":
        if event.name == "assistant_delta":
            read += len(event.data["text"])
            for gate in gates[: read // size]:
                gate.open()


def drain(connection: socket.socket) -> int:
    """Read to the end of the connection; how much there was."""
    total = 0
    while True:
        try:
            piece = connection.recv(1 << 16)
        except ConnectionError:
            return total
        if not piece:
            return total
        total += len(piece)


async def test_pings_are_events_on_both_kinds_of_stream(api: Caller, model: MockModel) -> None:
    gate = Gate()
    script = model.script([Text("a"), Hold(gate)])
    loop_id = await api.loop()
    async with api.watch(loop_id) as watching, api.send(loop_id, script.message()) as running:
        for stream in (watching, running):
            ping = await stream.until("ping")
            assert (ping.seq, ping.data) == (None, {})
        gate.open()
        await running.rest()


async def test_raw_messages_of_the_engine_are_shown_on_request_only(
    api: Caller, model: MockModel
) -> None:
    loop_id = await api.loop()
    plain = await api.turn(loop_id, model.script([Text("a")]).message())
    assert "sdk_message" not in [e.name for e in plain]
    async with api.send(
        loop_id, model.script([Text("a")]).message(), params={"include": "sdk_message"}
    ) as stream:
        await stream.rest()
    for event in stream.events:
        if event.name == "sdk_message":
            assert event.seq is None
    answer = await api.get(f"/loops/{loop_id}/events", params={"include": "everything"})
    expect(answer, 400, "invalid_parameter")


async def test_a_watcher_that_leaves_harms_nobody(api: Caller, model: MockModel) -> None:
    gate = Gate()
    script = model.script([Text("a"), Hold(gate), Text("b")])
    loop_id = await api.loop()
    async with api.watch(loop_id) as staying, api.send(loop_id, script.message()) as running:
        async with api.watch(loop_id) as leaving:
            await leaving.until("snapshot", "started")
        await running.until("assistant_delta")
        gate.open()
        await staying.until("done")
        await running.rest()
    with pytest.raises(StreamEnded):
        await running.next()
