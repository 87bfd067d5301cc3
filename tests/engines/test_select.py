"""Which engine serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopat_jupyter.engines.select import EngineUnavailable, select_engine
from loopat_jupyter.loops.ports import Turn


async def _nothing(turn: Turn) -> str:
    return ""


@pytest.mark.parametrize("name", ["auto", "builtin"])
def test_builtin_serves(tmp_path: Path, name: str) -> None:
    choice = select_engine(name, tmp_path, _nothing)
    assert choice.engine.name == "builtin"
    assert choice.engine.durable_choices
    assert choice.why


@pytest.mark.parametrize("name", ["claude", "acp", "gpt", ""])
def test_what_is_not_there_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(EngineUnavailable, match="builtin") as caught:
        select_engine(name, tmp_path, _nothing)
    assert repr(name) in caught.value.message
