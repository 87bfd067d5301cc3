"""What a turn leaves in the notebook's file, also where no Markdown is shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from loopat_jupyter.client import AssistantDelta
from loopat_jupyter.notebook.magics._turn import CellTurn
from loopat_jupyter.transcript.json import parse_turn

LOOP: Any = SimpleNamespace(id="loop_00000000-0000-4000-8000-000000000000")


def turn_with_text(text: str) -> CellTurn:
    turn = CellTurn(LOOP, "hello")
    event = AssistantDelta(text=text, data={"text": text})
    turn.result.add(event)
    turn._live.add(event)
    return turn


def test_the_text_for_consoles_is_the_one_without_tokens_and_paths_too() -> None:
    turn = turn_with_text("see /srv/secret/place and la_" + "0" * 48)
    part = {"type": "text", "text": "see ./place and la_…"}
    turn._final = parse_turn({"status": "done", "message": "hello", "parts": [part]})
    assert turn._bundle()["text/plain"] == "see ./place and la_…"
    assert "secret" not in str(turn._bundle())


def test_no_text_of_an_agent_has_power_over_a_terminal() -> None:
    shown = turn_with_text("a\x1b]52;c;eA==\x07b\n\u202ec")._bundle()["text/plain"]
    assert shown == "a␛]52;c;eA==␇b\n⟨U+202E⟩c"
    assert len(turn_with_text("x" * 1_000_000)._bundle()["text/plain"]) < 70_000
