"""Text is shown before the SDK sees it, exactly once, in order, however the bytes are cut."""

from __future__ import annotations

import json
import random

import pytest

from loopat_jupyter.engines.models.delta_tap import DeltaTap


def openai(**delta) -> bytes:
    finish = delta.pop("finish", None)
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


def anthropic(kind: str, **fields) -> bytes:
    data = json.dumps({"type": kind, **fields}).encode()
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def said(text: str, index: int = 1) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return anthropic("content_block_delta", index=index, delta=delta)


OPENAI = (
    openai(role="assistant", content="")
    + openai(reasoning_content="hm")
    + openai(content="Hel")
    + openai(content="lo \ud83d")
    + openai(content="\ude00 data: x\n\ndata: y")
    + openai(tool_calls=[{"index": 0, "id": "a", "function": {"name": "Bash", "arguments": "{}"}}])
    + openai(content=" bye")
    + openai(finish="stop")
    + b"data: [DONE]\n\n"
)
ANTHROPIC = (
    anthropic("message_start", message={"id": "m"})
    + anthropic("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"})
    + said("Hel")
    + said("lo \ud83d")
    + said("\ude00 data: x\n\ndata: y")
    + anthropic("content_block_stop", index=1)
    + said(" bye", index=2)
    + anthropic("message_stop")
)
TEXT = "Hello \U0001f600 data: x\n\ndata: y bye"


class Sdk:
    """Reads what the tap passes on, as an SDK does: whole events, in order."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []
        self.text = ""
        self._pending = b""
        self.tap = DeltaTap(self.show)

    async def show(self, delta) -> None:
        self.shown.append(("fast", delta.text))

    def read(self, data: bytes) -> None:
        *events, self._pending = (self._pending + data).split(b"\n\n")
        for event in events:
            payload = event.partition(b"data: ")[2]
            if payload == b"[DONE]":
                continue
            self._handle(json.loads(payload))

    def _handle(self, event: dict) -> None:
        delta = event.get("delta") or {}
        if "choices" in event:
            delta = event["choices"][0]["delta"]
        text = delta.get("text") or delta.get("content") or ""
        self.text += text
        if rest := self.tap.remaining(text):
            self.shown.append(("slow", rest))
        if thinking := delta.get("thinking") or delta.get("reasoning_content"):
            self.shown.append(("thinking", thinking))

    async def stream(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            if self.tap.closed:
                self.read(chunk)
                continue
            async for passed in self.tap.filter_chunk(chunk):
                self.read(passed)
        self.read(self.tap.close())

    @property
    def visible(self) -> str:
        joined = "".join(text for way, text in self.shown if way != "thinking")
        return joined.encode("utf-16", "surrogatepass").decode("utf-16")


@pytest.mark.parametrize("stream", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
async def test_cut_at_every_byte_the_text_is_whole_and_shown_once(stream: bytes) -> None:
    for cut in range(len(stream) + 1):
        sdk = Sdk()
        await sdk.stream([stream[:cut], stream[cut:]])
        assert sdk.visible == TEXT, cut
        assert sdk.text == TEXT, cut
        assert sdk.shown[0] == ("thinking", "hm"), cut
        assert all(way != "slow" for way, _ in sdk.shown), cut


@pytest.mark.parametrize("stream", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
async def test_cut_at_random_places(stream: bytes) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(200):
        cuts = sorted(chance.sample(range(len(stream)), chance.randrange(1, 12)))
        sdk = Sdk()
        ends = [*cuts, len(stream)]
        await sdk.stream([stream[a:b] for a, b in zip([0, *cuts], ends, strict=True)])
        assert (sdk.visible, sdk.text) == (TEXT, TEXT)


async def test_each_delta_is_shown_as_the_model_sent_it() -> None:
    sdk = Sdk()
    await sdk.stream([said("a") + said("b") + said("c"), said("d")])
    assert sdk.shown == [("fast", "a"), ("fast", "b"), ("fast", "c"), ("fast", "d")]


async def test_a_server_that_falls_behind_shows_what_has_arrived_as_one(monkeypatch) -> None:
    monkeypatch.setattr("loopat_jupyter.engines.models.delta_tap.SLOW_SHOW", -1.0)
    sdk = Sdk()
    await sdk.stream([said("a"), said("b") + said("c"), said("d")])
    assert sdk.shown == [("fast", "a"), ("fast", "bc"), ("fast", "d")]


@pytest.mark.parametrize(
    "stream",
    [
        openai(content="a") + openai(content="<think>") + openai(content="b") + openai(content="c"),
        openai(content="a").replace(b"\n\n", b"\r\n\r\n") + openai(content="<think>bc"),
    ],
)
async def test_a_stream_that_is_not_plain_text_goes_through_the_sdk_whole(stream: bytes) -> None:
    seen = DeltaTap(show=_nothing)
    passed = b""
    for start in range(0, len(stream), 7):
        chunk = stream[start : start + 7]
        if seen.closed:
            passed += chunk
            continue
        async for piece in seen.filter_chunk(chunk):
            passed += piece
    passed += seen.close()
    assert seen.closed
    text = "".join(
        json.loads(line.removeprefix(b"data: "))["choices"][0]["delta"]["content"]
        for line in passed.splitlines()
        if line
    )
    assert text.replace("<think>", "") == "abc"


async def _nothing(_delta) -> None: ...


@pytest.mark.parametrize(
    ("stream", "ended"),
    [
        (OPENAI, True),
        (ANTHROPIC, True),
        (said("event: message_stop\n"), False),
        (openai(content="\ndata: [DONE]\n"), False),
        (openai(content="a"), False),
    ],
)
def test_the_end_marker_is_detected_however_it_is_cut(stream: bytes, ended: bool) -> None:
    for size in (1, 7, 10_000):
        tap = DeltaTap(_nothing)
        for start in range(0, len(stream), size):
            tap.detect_end(stream[start : start + size])
        assert tap.ended is ended
