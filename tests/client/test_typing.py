"""A program over the client is checked by mypy, strictly: the package's types reach its users."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow(5)

PROGRAM = """
from collections.abc import Iterator
from typing import assert_type

from loopat_jupyter.client import (
    APIError,
    AssistantDelta,
    AsyncClient,
    Choice,
    Client,
    Decision,
    Event,
    Loop,
    Message,
    RequiresChoice,
    TurnResult,
    Usage,
    connect,
)


def decide(choice: Choice) -> Decision | None:
    return "deny" if choice.command and "rm" in choice.command else "allow"


def run() -> str:
    with connect() as client:
        assert_type(client, Client)
        loop = client.loops.create("typed", metadata={"a": "b"})
        assert_type(loop, Loop)
        assert_type(client.loops.list(), Iterator[Loop])
        for event in loop.send("hi", on_choice="deny", permission_mode="plan"):
            assert_type(event, Event)
            if isinstance(event, AssistantDelta):
                assert_type(event.text, str)
            if isinstance(event, RequiresChoice):
                loop.choice(event).allow(remember="loop")
        result = loop.ask("hi", on_choice=decide)
        assert_type(result, TurnResult)
        assert_type(result.usage, Usage | None)
        assert_type(loop.history(), Iterator[Message])
        return result.text


def code_of(error: APIError) -> str:
    return error.code


async def run_async() -> str:
    async with AsyncClient("http://127.0.0.1:8888/", "la_x") as client:
        loop = await client.loops.create()
        async for event in await loop.send("hi"):
            assert_type(event, Event)
        return (await loop.ask("hi")).text
"""

MISTAKES = {
    'client.loops.create(metadata={"a": 1})': "dict-item",
    'client.loops.get("x").ask("hi", on_choice="perhaps")': "arg-type",
    'client.loops.get("x").ask("hi", permission_mode="yolo")': "arg-type",
    'client.loops.get("x").ask("hi").words': "attr-defined",
}


def test_a_typed_program_passes_and_mistakes_are_found(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is in the extra dev")
    (tmp_path / "good.py").write_text(PROGRAM)
    lines = ["from loopat_jupyter.client import Client", "client = Client('http://h/')", *MISTAKES]
    (tmp_path / "bad.py").write_text("\n".join(lines) + "\n")
    options = ["--strict", "--no-error-summary", "--cache-dir=cache"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "good.py", "bad.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert not [line for line in found if not line.startswith("bad.py:")], done.stdout
    for number, code in enumerate(MISTAKES.values(), 3):
        line = next((one for one in found if one.startswith(f"bad.py:{number}:")), "")
        assert f"[{code}]" in line, f"line {number}: {done.stdout}{done.stderr}"
