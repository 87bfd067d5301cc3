"""Server-sent events in every shape that servers give them, however the bytes are cut."""

from __future__ import annotations

import random

import pytest

from loopat_jupyter.engines.models.sse import EventStreamDecoder, ServerEvent


def decoded(*chunks: bytes) -> list[ServerEvent]:
    decoder = EventStreamDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    last = decoder.end()
    return [*events, last] if last is not None else events


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [("", "a"), ("", "b")]),
        (b"event: x\ndata: a\n\n", [("x", "a")]),
        (b"data:a\r\n\r\ndata:b\r\n\r\n", [("", "a"), ("", "b")]),
        (b"data: a\r\rdata: b\r\r", [("", "a"), ("", "b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", "a")]),
        (b"data: a\ndata: b\n\n", [("", "a\nb")]),
        (b": heartbeat\n\nevent: ping\n\nretry: 10\n\ndata: a\n\n", [("", "a")]),
        (b"id: 7\nunknown: x\nevent\ndata: a\n\n", [("", "a")]),
        (b"data:  two spaces\n\n", [("", " two spaces")]),
        (b"data: no blank line at the end", [("", "no blank line at the end")]),
        (b"data: a: b\n\n", [("", "a: b")]),
        (b"data\n\n", [("", "")]),
        ("data: grün \N{SNAKE}\n\n".encode(), [("", "grün \N{SNAKE}")]),
        ("data: a\N{LINE SEPARATOR}b\x0cc\x85\n\n".encode(), [("", "a\u2028b\x0cc\x85")]),
        (b"data: \xff\n\n", [("", "\N{REPLACEMENT CHARACTER}")]),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_cut_at_every_byte_the_events_are_the_same(
    stream: bytes, events: list[tuple[str, str]]
) -> None:
    for cut in range(len(stream) + 1):
        assert decoded(stream[:cut], stream[cut:]) == events, cut
    assert decoded(*(stream[at : at + 1] for at in range(len(stream)))) == events


def test_cut_at_random_places() -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    stream = "".join(f"event: e\r\ndata: {n} \N{SNAKE}\r\ndata: x\r\n\r\n" for n in range(50))
    whole = decoded(stream.encode())
    assert len(whole) == 50
    data = stream.encode()
    for _ in range(200):
        cuts = sorted(chance.sample(range(len(data)), 12))
        ends = [*cuts, len(data)]
        assert decoded(*(data[a:b] for a, b in zip([0, *cuts], ends, strict=True))) == whole
