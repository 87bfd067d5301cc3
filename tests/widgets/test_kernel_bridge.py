"""The way through the kernel, over a real server: the calls, the pace, the end."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from loopat_jupyter.client import Client, ServerAddress
from loopat_jupyter.notebook.widgets._batches import UPDATES
from loopat_jupyter.notebook.widgets._kernel_bridge import KernelBridge
from tests.support.mock_model import Gate, Hold, MockModel, Text, bash

from .conftest import Browser

BrowserOf = Callable[[str], Browser]


def new_key() -> str:
    return secrets.token_hex(8)


def test_a_conversation_goes_through_the_kernel(
    client: Client, model: MockModel, browser_of: BrowserOf
) -> None:
    loop = client.loops.create("Through")
    browser = browser_of(loop.id)
    assert browser.call("loop")["title"] == "Through"
    assert browser.call("loop")["isolation"]["isolates"] in (True, False)
    assert browser.call("watch", watch="w", after=0) is None
    script = model.script([Text("I ask. "), bash("echo hi")], [Text("Done.")])
    first = browser.call("send", content=script.message(), key=new_key(), mode="default")
    assert first["name"] == "started"
    asked = browser.until_event("w", "requires_choice")["data"]
    assert browser.call("choice", choice_id=asked["choice_id"], body={"allow": True}) is None
    browser.until_event("w", "done")
    events = browser.events("w")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(event["data"]["turn_id"] == first["data"]["turn_id"] for event in events)
    page = browser.call("messages", limit=1, order="desc")
    assert page["has_more"] is True
    (row,) = page["data"]
    assert (row["content"], row["seq"]) == ("I ask. Done.", 1)
    assert row["tool_calls"][0]["input"] == {"command": "echo hi"}
    assert row["created_at"].startswith("20")


def test_a_message_sent_twice_with_one_key_runs_once(client: Client, browser_of: BrowserOf) -> None:
    loop = client.loops.create()
    browser = browser_of(loop.id)
    key = new_key()
    one = browser.call("send", content="hello", key=key, mode=None)
    two = browser.call("send", content="hello", key=key, mode=None)
    assert one == two
    assert loop.refresh().info.turn_count == 1


def test_stopping_goes_through_too_and_a_watch_can_join_late(
    client: Client, model: MockModel, browser_of: BrowserOf
) -> None:
    loop = client.loops.create()
    browser = browser_of(loop.id)
    script = model.script([Text("long"), Hold(Gate())])
    browser.call("watch", watch="early", after=0)
    browser.call("send", content=script.message(), key=new_key(), mode=None)
    browser.until_event("early", "assistant_delta")
    browser.call("watch", watch="late", after=None)
    assert browser.until_event("late", "snapshot")["data"]["assistant_text_so_far"] == "long"
    assert browser.call("interrupt") is None
    browser.until_event("late", "interrupted")


def test_refusals_are_the_server_s_own_words_without_an_address(
    client: Client, browser_of: BrowserOf
) -> None:
    loop = client.loops.create()
    browser = browser_of(loop.id)
    for call, code in [
        (("choice", {"choice_id": "choice_x", "body": {"allow": True}}), "choice_not_found"),
        (("send", {"content": " ", "key": new_key()}), "missing_content"),
        (("send", {"key": new_key()}), "invalid_parameter"),
        (("fly", {}), "invalid_parameter"),
    ]:
        error = browser.call(call[0], **call[1])["error"]
        assert error["code"] == code
        assert "127.0.0.1" not in error["message"]
    unknown = browser_of("loop_unknown").call("loop")["error"]
    assert (unknown["code"], unknown["status"]) == ("loop_not_found", 404)


def test_a_server_that_is_not_there_is_unreachable_and_nothing_of_it_is_told() -> None:
    browser = Browser()
    address = ServerAddress("http://127.0.0.1:9/secret-prefix/", "la_" + 48 * "0")
    browser.bridge = KernelBridge("loop_x", address, browser.receive)
    try:
        error = browser.call("loop")["error"]
    finally:
        browser.bridge.close()
    assert error["code"] == "unreachable"
    assert "secret" not in error["message"]


def test_very_many_events_are_few_messages_and_all_arrive(
    client: Client, model: MockModel, browser_of: BrowserOf
) -> None:
    loop = client.loops.create()
    script = model.script([*(Text(f"{n} ") for n in range(3000))])
    loop.ask(script.message())
    browser = browser_of(loop.id)
    begun = time.monotonic()
    browser.call("watch", watch="w", after=0)
    browser.until_event("w", "done")
    took = time.monotonic() - begun
    text = "".join(e["data"]["text"] for e in browser.events("w") if e["name"] == "assistant_delta")
    assert text == "".join(f"{n} " for n in range(3000))
    batches = [one for one in browser.came if one["op"] == "events"]
    assert len(batches) <= took * UPDATES + 2
    numbers = [event["seq"] for event in browser.events("w")]
    assert all(after == before + 1 for before, after in pairwise(numbers))


@pytest.mark.parametrize("state", ["idle", "watching", "waiting for an answer"])
def test_closing_ends_the_thread_whatever_it_does(
    client: Client, model: MockModel, browser_of: BrowserOf, state: str
) -> None:
    loop = client.loops.create()
    browser = browser_of(loop.id)
    assert browser.bridge is not None
    browser.call("loop")
    if state == "watching":
        browser.call("watch", watch="w", after=0)
    if state == "waiting for an answer":
        loop.send(model.script([Text("a"), Hold(Gate())]).message()).close()
        browser.bridge.handle_message(
            {"op": "send", "id": 99, "args": {"content": "b", "key": new_key()}}
        )
        browser.until(lambda one: one.get("id") == 99)  # it is queued, and that is an answer
    browser.bridge.close()
    assert f"loopat {loop.id}" not in {thread.name for thread in threading.enumerate()}
    came = len(browser.came)
    browser.bridge.handle_message({"op": "loop", "id": 100, "args": {}})
    assert len(browser.came) == came
    loop.interrupt()


def test_a_watch_that_is_given_up_sends_nothing_more(
    client: Client, model: MockModel, browser_of: BrowserOf
) -> None:
    loop = client.loops.create()
    browser = browser_of(loop.id)
    assert browser.bridge is not None
    gate = Gate()
    script = model.script([Text("one"), Hold(gate), Text("two")])
    for name in ("kept", "left"):
        browser.call("watch", watch=name, after=0)
    browser.call("send", content=script.message(), key=new_key(), mode=None)
    browser.until_event("left", "assistant_delta")
    browser.bridge.handle_message({"op": "unwatch", "watch": "left"})
    browser.call("loop")  # answered after the watch was given up
    gate.open()
    browser.until_event("kept", "done")
    assert "done" not in {event["name"] for event in browser.events("left")}


def test_what_is_no_message_is_left_alone(client: Client, browser_of: BrowserOf) -> None:
    browser = browser_of(client.loops.create().id)
    assert browser.bridge is not None
    for message in (None, "loop", 3, [], {"op": None}, {}):
        browser.bridge.handle_message(message)
    assert browser.call("loop")["busy"] is False


def test_a_file_goes_through_the_kernel_in_the_message_s_buffer(
    client: Client, browser_of: BrowserOf
) -> None:
    loop = client.loops.create()
    browser = browser_of(loop.id)
    assert browser.bridge is not None
    message = {"op": "put", "id": "p", "args": {"path": "raw.bin"}}
    browser.bridge.handle_message(message, [memoryview(b"\x00\xffbytes")])
    assert browser.until(lambda one: one.get("id") == "p")["result"] is None
    assert loop.get("raw.bin") == b"\x00\xffbytes"
    browser.bridge.handle_message(
        {**message, "id": "q", "args": {"path": "../out"}}, [memoryview(b"x")]
    )
    refused = browser.until(lambda one: one.get("id") == "q")["error"]
    assert refused["code"] == "invalid_parameter"
    browser.bridge.handle_message({**message, "id": "r"})  # without a buffer
    assert browser.until(lambda one: one.get("id") == "r")["error"]["status"] == 400
