"""An output that changes fast is shown at a pace that a Jupyter server lets through."""

from __future__ import annotations

import time
from typing import Any

import pytest

from loopat_jupyter.client import AssistantDelta
from loopat_jupyter.notebook.magics import _live
from loopat_jupyter.notebook.magics._live import LiveOutput
from loopat_jupyter.notebook.output import LiveTurn, bundle


class Shown:
    """Takes what would be published."""

    def __init__(self) -> None:
        self.bundles: list[dict[str, Any]] = []

    def display(self, data: dict[str, Any], **how: Any) -> Shown:
        self.bundles.append(data)
        return self

    update = display


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    one = Shown()
    monkeypatch.setattr(_live, "display", one.display)
    return one


def test_twenty_thousand_deltas_are_few_updates_and_little_data(shown: Shown):
    live = LiveTurn()
    began = time.monotonic()
    with LiveOutput(lambda: bundle(live.markdown(), None)) as output:
        for number in range(20_000):
            with output.lock:
                text = f"{number} words of it\n"
                live.add(AssistantDelta(text=text, seq=number, data={"text": text}))
            output.changed()
    took = time.monotonic() - began
    size = sum(len(data["text/markdown"]) for data in shown.bundles)
    assert len(shown.bundles) <= _live.PER_SECOND * took + 2
    # Two at the ends come whatever the pace.
    assert size <= _live.BYTES_PER_SECOND * took + 2 * len(shown.bundles[-1]["text/markdown"])
    assert "19999 words of it" in shown.bundles[-1]["text/markdown"]


def test_the_last_words_before_a_silence_are_seen(shown: Shown):
    text = ["a"]
    with LiveOutput(lambda: {"text/plain": text[0]}) as output:
        for word in ("b", "c"):
            text[0] = word
            output.changed()
        give_up = time.monotonic() + 10
        while shown.bundles[-1]["text/plain"] != "c":
            assert time.monotonic() < give_up
            time.sleep(0.005)


def test_what_has_not_changed_is_not_shown_again(shown: Shown):
    with LiveOutput(lambda: {"text/plain": "same"}) as output:
        output.changed()
    assert len(shown.bundles) == 1


def test_an_error_inside_ends_the_thread_and_shows_what_there_is(shown: Shown):
    text = ["a"]

    def fail() -> None:
        text[0] = "b"
        raise KeyError("x")

    output = LiveOutput(lambda: {"text/plain": text[0]})
    with pytest.raises(KeyError), output:
        fail()
    assert shown.bundles[-1]["text/plain"] == "b"
    assert output._thread is not None
    assert not output._thread.is_alive()
