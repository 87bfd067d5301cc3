"""The client against a real server, its demo model and its sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
from pathlib import Path

import httpx
import pytest

from loopat_jupyter import client as api
from loopat_jupyter.client import (
    AsyncClient,
    ChoiceRequired,
    Client,
    Event,
    Loop,
    RequiresChoice,
    find_server,
)
from tests.support.server import JupyterServer

from .breaking_proxy import BreakingProxy


@pytest.fixture
def loop(client: Client) -> Loop:
    return client.loops.create("a test")


def test_a_loop_is_made_found_listed_and_archived(client: Client):
    loop = client.loops.create("  named  ", metadata={"k": "v"})
    assert (loop.title, dict(loop.info.metadata)) == ("named", {"k": "v"})
    found = client.loops.get(loop.id)
    assert (found.info.busy, found.info.queue_depth, found.info.turn_count) == (False, 0, 0)
    others = [client.loops.create(f"n{n}").id for n in range(5)]
    listed = [one.id for one in client.loops.list(page_size=2)]
    assert listed[:6] == [*reversed(others), loop.id]
    loop.archive()
    loop.archive()
    assert loop.id not in [one.id for one in client.loops.list()]
    assert loop.id in [one.id for one in client.loops.list(archived=True)]
    with pytest.raises(api.InvalidRequestError) as error:
        loop.ask("hello")
    assert error.value.code == "loop_archived"


def test_ask_runs_a_command_and_the_loop_is_idle_afterwards(loop: Loop):
    result = loop.ask("!echo $((6 * 7))")
    assert "42" in result.text
    assert [(c.tool, c.summary, c.ok) for c in result.tool_calls] == [
        ("Bash", "echo $((6 * 7))", True)
    ]
    assert result.usage is not None
    assert result.usage.output_tokens > 0
    assert loop.refresh().info.busy is False
    user, assistant = loop.history(page_size=1)
    assert (user.role, user.content) == ("user", "!echo $((6 * 7))")
    assert assistant.content == result.text
    assert assistant.tool_calls[0].input == {"command": "echo $((6 * 7))"}


def test_a_permission_is_allowed_denied_and_remembered(loop: Loop):
    denied = loop.ask("!echo secret", permission_mode="default", on_choice="deny")
    assert [c.outcome for c in denied.choices] == ["denied"]
    assert denied.tool_calls[0].ok is False
    asked: list[str | None] = []

    def always(choice: api.Choice) -> None:
        asked.append(choice.command)
        choice.allow(remember="loop")

    for command in ("ls -a", "ls -l"):
        result = loop.ask(f"!{command}", permission_mode="default", on_choice=always)
        assert result.tool_calls[0].ok
    assert asked == ["ls -a"]
    (rule,) = loop.rules()
    assert rule.tool == "Bash"
    loop.withdraw_rule(rule.rule_id)
    assert loop.rules() == []
    with pytest.raises(api.NotFoundError):
        loop.choice(denied.choices[0].request).allow()


def test_a_question_is_answered_by_its_options_or_in_own_words(loop: Loop):
    for answer in ("Coffee", "water, please"):
        result = loop.ask("ask Drink? | Tea | Coffee", on_choice=lambda choice, a=answer: a)
        assert answer in result.text
        assert result.choices[0].outcome == "answered"


def test_by_default_a_choice_raises_and_the_turn_keeps_waiting(client: Client, loop: Loop):
    with pytest.raises(ChoiceRequired) as error:
        loop.ask("ask Drink? | Tea | Coffee")
    pending = client.loops.get(loop.id).pending_choice()
    assert pending is not None
    assert pending.id == error.value.request.choice_id
    assert [o.label for o in pending.questions[0].options] == ["Tea", "Coffee"]
    with loop.events() as events:
        pending.answer("Tea")
        assert any(isinstance(e, api.Done) for e in until_end(events))
    assert loop.pending_choice() is None


def until_end(events: api.EventStream) -> list[Event]:
    seen = []
    for event in events:
        seen.append(event)
        if event.terminal:
            break
    return seen


def test_interrupt_ends_the_turn_and_the_next_one_runs(loop: Loop):
    events = loop.send("count 10000")
    for event in events:
        if isinstance(event, api.AssistantDelta) and "3" in event.text:
            break
    queued = loop.send("!echo next")
    assert isinstance(next(queued), api.Queued)
    loop.interrupt()
    assert isinstance(list(events)[-1], api.Interrupted)
    assert isinstance(list(queued)[-1], api.Done)
    replay = api.TurnResult()
    with loop.events(after_seq=0) as past:
        for event in until_end(past):
            replay.add(event)
    with pytest.raises(api.TurnInterrupted):
        replay.raise_for_status()


def test_the_same_key_shows_the_same_turn_and_another_body_conflicts(loop: Loop):
    first = list(loop.send("!echo once >> log; cat log", idempotency_key="k1"))
    again = list(loop.send("!echo once >> log; cat log", idempotency_key="k1"))
    assert [e for e in again if e.seq] == [e for e in first if e.seq]
    with pytest.raises(api.ConflictError) as error:
        loop.send("other", idempotency_key="k1")
    assert error.value.code == "idempotency_key_reused"
    assert loop.refresh().info.turn_count == 1


def test_a_live_turn_survives_connections_that_break_at_random_bytes(
    proxied: Client, proxy: BreakingProxy
):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    loop = proxied.loops.create("broken")
    loop.ask("hello")
    for content in ("count 60", "!seq 200"):
        proxy.cuts = [chance.randrange(150, 2500) for _ in range(12)]
        before, streams = loop.refresh().info.turn_count, proxy.streams
        events = list(loop.send(content))
        numbers = [e.seq for e in events if e.seq is not None]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert isinstance(events[0], api.Started)
        assert isinstance(events[-1], api.Done)
        assert loop.refresh().info.turn_count == (before or 0) + 1
        assert proxy.streams > streams + 1, "nothing was cut"
        text = "".join(e.text for e in events if isinstance(e, api.AssistantDelta))
        assert text == list(loop.history())[-1].content


def test_a_replayed_turn_resumes_after_a_break_at_every_event(
    client: Client, proxied: Client, proxy: BreakingProxy
):
    """The same key shows the same turn; each time the connection breaks one event later."""
    loop = client.loops.create("cut")
    prompt, key = "think of it\n!echo one; echo two", "one key"
    whole = list(loop.send(prompt, idempotency_key=key))
    stored = [event for event in whole if event.seq is not None]
    assert len(stored) >= 5
    through_proxy = proxied.loops.get(loop.id)
    for count in range(1, len(stored)):
        for less in (0, 3):  # behind the event, and within its last bytes
            proxy.event_cuts = [(count, less)]
            before = proxy.streams
            again = list(through_proxy.send(prompt, idempotency_key=key))
            assert [event for event in again if event.seq] == stored, (count, less)
            assert proxy.streams == before + 2, "it was cut once, and picked up once"
    assert loop.refresh().info.turn_count == 1


def test_connect_takes_the_address_of_the_environment_first(
    demo_server: JupyterServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LOOPAT_URL", demo_server.url)
    monkeypatch.setenv("LOOPAT_TOKEN", demo_server.token)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "of a Hub")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("JPY_PARENT_PID", "41")
    with api.connect() as client:
        client.loops.page()
        assert client.address.found_by == "LOOPAT_URL"


async def test_connect_async_takes_it_too(
    demo_server: JupyterServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LOOPAT_URL", demo_server.url)
    monkeypatch.setenv("LOOPAT_TOKEN", demo_server.token)
    async with api.connect_async() as client:
        await client.loops.page()


def test_a_choice_survives_broken_connections(proxied: Client, proxy: BreakingProxy):
    loop = proxied.loops.create("broken")
    proxy.cuts = [700, 300, 300]
    result = loop.ask("ask Drink? | Tea | Coffee", on_choice=lambda choice: "Tea")
    assert [c.outcome for c in result.choices] == ["answered"]
    assert "Tea" in result.text


def test_a_stream_survives_a_restart_of_the_server(tmp_path: Path):
    with JupyterServer(tmp_path / "own") as server, Client(server.url, server.token) as client:
        loop = client.loops.create("restart")
        events = loop.send("ask Drink? | Tea | Coffee", on_choice="wait")
        asked = next(e for e in events if isinstance(e, RequiresChoice))
        server.kill()
        back = threading.Thread(target=server.start)
        back.start()
        rest: list[Event] = []
        reader = threading.Thread(target=lambda: rest.extend(events))
        reader.start()
        back.join()
        loop.choice(asked).answer("Coffee")
        reader.join(30)
        assert isinstance(rest[-1], api.Done)
        assert "Coffee" in "".join(e.text for e in rest if isinstance(e, api.AssistantDelta))


def test_wrong_credentials_are_an_authentication_error(demo_server: JupyterServer):
    for token in ("la_" + "0" * 48, "wrong", None):
        with Client(demo_server.url, token) as client, pytest.raises(api.AuthenticationError):
            client.loops.page()


def test_tokens_are_made_used_and_revoked(demo_server: JupyterServer, client: Client):
    made = client.tokens.create("of the test")
    assert made.token is not None
    assert made.token_id in [t.token_id for t in client.tokens.list()]
    with Client(demo_server.url, made.token) as program:
        loop = program.loops.create("by a program")
        assert "hi" in program.loops.get(loop.id).ask("!echo hi").text
        with pytest.raises(api.AuthenticationError) as error:
            program.tokens.list()
        assert error.value.code == "missing_credentials"
        client.tokens.revoke(made.token_id)
        with pytest.raises(api.AuthenticationError) as error:
            program.loops.page()
        assert error.value.code == "invalid_token"
    with pytest.raises(api.NotFoundError):
        client.tokens.revoke(made.token_id)


def test_a_server_without_the_api_is_an_unexpected_response(demo_server: JupyterServer):
    url = demo_server.url.rstrip("/") + "/elsewhere"
    with Client(url, demo_server.token) as client, pytest.raises(api.UnexpectedResponse):
        client.loops.page()
    with Client("http://127.0.0.1:9", "x") as client, pytest.raises(api.ConnectionFailed):
        client.loops.page()


def test_a_kernels_parent_is_found_by_its_pid(demo_server: JupyterServer, client: Client):
    client.loops.page()  # a server that answers has written its file
    env = {
        "JPY_PARENT_PID": str(demo_server.pid),
        "JUPYTER_RUNTIME_DIR": str(demo_server.directory / "runtime"),
    }
    address = find_server(env)
    assert address.found_by == "JPY_PARENT_PID"
    with Client(address) as client:
        client.loops.page()


def test_a_kernel_of_the_server_finds_it(demo_server: JupyterServer, tmp_path: Path):
    """``connect()`` in a kernel process that the server itself has started."""
    found = tmp_path / "found"
    os.mkfifo(found)
    code = (
        "import signal\n"
        "from loopat_jupyter.client import connect\n"
        "with connect() as client:\n"
        "    said = client.address.found_by + ' ' + client.loops.create('in a kernel').id\n"
        f"open({str(found)!r}, 'w').write(said)\n"
        "signal.pause()\n"
    )
    spec = {"argv": [sys.executable, "-c", code], "display_name": "probe", "language": "python"}
    place = demo_server.directory / "data" / "kernels" / "probe"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps(spec))
    with httpx.Client(base_url=demo_server.url, headers=demo_server.session, timeout=60) as http:
        kernel = http.post("api/kernels", json={"name": "probe"}).json()
        found_by, loop_id = found.read_text().split()
        assert http.delete(f"api/kernels/{kernel['id']}").status_code == 204
    assert found_by == "JPY_PARENT_PID"
    with Client(demo_server.url, demo_server.token) as client:
        assert client.loops.get(loop_id).title == "in a kernel"


async def test_many_loops_at_once_with_the_asyncio_client(demo_server: JupyterServer):
    async with AsyncClient(demo_server.url, demo_server.token) as client:

        async def one(number: int) -> str:
            loop = await client.loops.create(f"parallel {number}")
            result = await loop.ask(f"!echo number {number}")
            rows = [message async for message in loop.history(page_size=1)]
            assert rows[1].content == result.text
            return result.text

        texts = await asyncio.gather(*(one(n) for n in range(6)))
        assert all(f"number {n}" in text for n, text in enumerate(texts))
        listed = [loop.title async for loop in client.loops.list(page_size=4)]
        assert "parallel 3" in listed


async def test_a_cancelled_reader_continues_at_the_same_event(demo_server: JupyterServer):
    async with AsyncClient(demo_server.url, demo_server.token) as client:
        loop = await client.loops.create("cancelled")
        events = await loop.send("count 30")
        seen: list[Event] = []
        started = asyncio.Event()

        async def read() -> None:
            async for event in events:
                seen.append(event)
                if isinstance(event, api.AssistantDelta) and "5" in event.text:
                    started.set()

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await read()
        numbers = [e.seq for e in seen if e.seq is not None]
        assert numbers == list(range(1, len(numbers) + 1))
        assert isinstance(seen[-1], api.Done)
