"""A stream that is cut anywhere brings every event of its turn, in order, exactly once."""

from __future__ import annotations

import random

import httpx
import pytest

from loopat_jupyter import client as api
from loopat_jupyter.client import AsyncClient, Client, Event, RetryPolicy, StreamLost
from loopat_jupyter.client._resume import IDEMPOTENCY_WINDOW, ResumingStream

from .scripted_api import LOOP, OWN, RECORDED, TURN, ScriptedApi, refusal

AT_ONCE = RetryPolicy(backoff=0.0)
URL = "http://server.test/a%40b/"


def client_of(scripted: ScriptedApi, retry: RetryPolicy = AT_ONCE) -> Client:
    return Client(URL, "la_x", transport=scripted.transport, retry=retry)


def numbers(events: list[Event]) -> list[int]:
    return [event.seq for event in events if event.seq is not None]


def read(scripted: ScriptedApi, retry: RetryPolicy = AT_ONCE) -> list[Event]:
    with client_of(scripted, retry) as client:
        return list(client.loops.get(LOOP).send("hi", on_choice="wait"))


def whole_length() -> int:
    scripted = ScriptedApi()
    with client_of(scripted):
        response = scripted.handle(
            httpx.Request(
                "POST",
                f"{URL}loopat/api/v1/loops/{LOOP}/messages",
                headers={"Idempotency-Key": "k"},
            )
        )
    return len(b"".join(response.stream))  # type: ignore[arg-type]


def test_an_unbroken_turn_is_typed_and_complete():
    events = read(ScriptedApi())
    assert [type(e) for e in events] == [
        api.Queued, api.Started, api.ThinkingDelta, api.AssistantDelta, api.ToolCall,
        api.RequiresChoice, api.ChoiceResolved, api.ToolResult, api.UnknownEvent,
        api.AssistantDelta, api.Done,
    ]  # fmt: skip
    assert numbers(events) == OWN
    assert events[-1] == api.Done(
        seq=11, turn_id=TURN, usage=api.Usage(input_tokens=3, output_tokens=5)
    )


@pytest.mark.parametrize("how", ["error", "end"])
def test_a_break_at_every_byte_loses_and_repeats_no_event(how: str):
    whole = read(ScriptedApi())
    for cut in range(whole_length()):
        scripted = ScriptedApi([cut])
        if how == "end":  # a proxy that ends the response in good order
            scripted.error = None  # type: ignore[assignment]
        assert read(scripted) == whole, f"cut after {cut} bytes"
        assert len(set(scripted.keys)) == 1


def test_many_breaks_at_random_bytes_lose_and_repeat_no_event():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    whole = read(ScriptedApi())
    for _ in range(200):
        cuts: list[int | None] = [chance.randrange(400) for _ in range(chance.randrange(1, 8))]
        assert read(ScriptedApi(cuts)) == whole, cuts


async def test_the_asyncio_client_resumes_as_well_at_every_event():
    whole = read(ScriptedApi())
    for cut in range(0, whole_length(), 5):
        scripted = ScriptedApi([cut, 90])
        async with AsyncClient(URL, transport=scripted.transport, retry=AT_ONCE) as client:
            loop = await client.loops.get(LOOP)
            events = [e async for e in await loop.send("hi", on_choice="wait")]
        assert events == whole, f"cut after {cut} bytes"


def test_it_resends_with_its_key_until_a_stored_event_then_resumes_by_cursor():
    scripted = ScriptedApi([10, 300])
    read(scripted)
    first, second, third = scripted.streams()
    assert first.method == second.method == "POST"
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.content == second.content
    assert third.method == "GET"
    assert third.url.raw_path == f"/a%40b/loopat/api/v1/loops/{LOOP}/events".encode()
    assert int(third.headers["Last-Event-ID"]) in OWN
    assert {r.headers["Accept"] for r in (first, second, third)} == {"text/event-stream"}


def test_watching_a_loop_resumes_across_turns():
    scripted = ScriptedApi([200, 333, 150])
    with client_of(scripted) as client:
        seen = []
        with client.loops.get(LOOP).events(after_seq=0) as events:
            for event in events:
                seen.append(event)
                if event.seq == len(RECORDED):
                    break
    assert numbers(seen) == list(range(1, len(RECORDED) + 1))


def test_an_unreachable_server_ends_the_stream_with_its_cursor():
    scripted = ScriptedApi([300])
    away = [httpx.ConnectError("refused")] * 3
    scripted.special["GET", f"loops/{LOOP}/events"] = [*away]
    with pytest.raises(StreamLost) as lost:
        read(scripted, RetryPolicy(backoff=0.0, stream_attempts=4))
    assert lost.value.cursor in OWN


def test_a_server_that_never_responded_is_a_failed_connection():
    scripted = ScriptedApi()
    scripted.special["POST", f"loops/{LOOP}/messages"] = [httpx.ConnectError("refused")] * 4
    with pytest.raises(api.ConnectionFailed) as failed:
        read(scripted)
    assert not isinstance(failed.value, StreamLost)
    assert len(scripted.streams()) == 4


def test_a_503_is_retried_but_a_404_is_final():
    scripted = ScriptedApi([300])
    busy = refusal(503, "internal_error", "overloaded", "busy", {"Retry-After": "0"})
    scripted.special["GET", f"loops/{LOOP}/events"] = [busy, httpx.ConnectError("refused")]
    assert numbers(read(scripted)) == OWN
    scripted = ScriptedApi([300])
    gone = refusal(404, "not_found_error", "loop_not_found", "gone")
    scripted.special["GET", f"loops/{LOOP}/events"] = [gone]
    with pytest.raises(api.NotFoundError):
        read(scripted)


def test_an_exception_in_the_caller_loses_nothing():
    class CtrlC(BaseException):
        pass

    scripted = ScriptedApi([300], error=CtrlC())  # type: ignore[arg-type]
    with client_of(scripted) as client:
        events = client.loops.get(LOOP).send("hi", on_choice="wait")
        seen = []
        with pytest.raises(CtrlC):
            seen.extend(iter(events.__next__, None))
        first = events.cursor
        rest = list(events)
    assert first is not None
    assert numbers(rest) == [seq for seq in OWN if seq > first]


def test_read_timeouts_are_not_counted_as_failures():
    scripted = ScriptedApi([0] + [230] * 30, error=httpx.ReadTimeout("silent"))
    assert numbers(read(scripted, RetryPolicy(backoff=0.0, stream_attempts=2))) == OWN


def test_a_message_older_than_its_keys_window_is_never_sent_again():
    now = 0.0
    message = api._requests.send_message(LOOP, "hi", None, "key", False)  # type: ignore[attr-defined]
    state = ResumingStream(lambda cursor: message, AT_ONCE, message=message, clock=lambda: now)
    state.next_request()
    now = IDEMPOTENCY_WINDOW + 1
    with pytest.raises(StreamLost):
        state.next_request()
