"""Agents in real sandboxes, and a host that decides by the real policy and a scripted person."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.acp.engine import AcpEngine
from loopat_jupyter.engines.acp.process import AgentLimits
from loopat_jupyter.loops.permissions import evaluate
from loopat_jupyter.loops.ports.engine import (
    USER_DENIED,
    Answers,
    PastTurn,
    PermissionDecision,
    PermissionMode,
    Turn,
    TurnState,
    TurnUsage,
    UserQuestion,
)
from loopat_jupyter.loops.ports.sandbox import Sandbox
from tests.engines.memory_host import turn_of
from tests.sandboxes.conftest import LoopatHome, Started, in_bubblewrap, loopat_home, unconfined

__all__ = ["LoopatHome", "in_bubblewrap", "loopat_home", "unconfined"]

SCRIPTED = Path(__file__).parent / "scripted_agent.py"
INSTRUCTIONS = "Be brief."


@dataclass
class Host:
    """A host in memory. ``events`` is ``(what, *details)`` in the order of the calls; ``person``
    has the answers to what must be asked, in order. Without one the turn waits."""

    sandbox_: Sandbox
    mode: PermissionMode = "bypassPermissions"
    person: list[bool] = field(default_factory=list)
    past: list[PastTurn] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    raw: list[Mapping[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    forms: list[tuple[str, list[UserQuestion]]] = field(default_factory=list)
    answers: Answers | None = None
    total: TurnUsage = field(default_factory=TurnUsage)
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def _say(self, *what: Any) -> None:
        async with self.moved:
            self.events.append(what)
            self.moved.notify_all()

    async def text(self, delta: str) -> None:
        if delta:
            await self._say("text", delta)

    async def thinking(self, delta: str) -> None:
        if delta:
            await self._say("thinking", delta)

    async def tool_call(self, tool_use_id: str, tool: str, input: Mapping[str, Any]) -> None:
        assert tool_use_id not in self.calls
        await self._say("call", tool_use_id, tool, dict(input))

    async def tool_result(self, tool_use_id: str, ok: bool, result: str) -> None:
        assert tool_use_id in self.calls
        assert tool_use_id not in self.results
        await self._say("result", tool_use_id, ok, result)

    async def permission(
        self,
        tool_use_id: str,
        tool: str,
        input: Mapping[str, Any],
        *,
        kind: Any,
        inside_workdir: bool = False,
        **shown: Any,
    ) -> PermissionDecision:
        assert tool_use_id.partition("#")[0] in self.calls, "asked before it was announced"
        decision = evaluate(self.mode, kind, inside_workdir=inside_workdir, remembered=False)
        self.asked.append(
            {"id": tool_use_id, "tool": tool, "input": dict(input), "kind": kind,
             "inside": inside_workdir, "decision": decision, **shown}
        )  # fmt: skip
        await self._say("asked", tool_use_id)
        if decision != "ask":
            if decision == "run":
                return PermissionDecision(True)
            return PermissionDecision.deny("User denied permission", "policy")
        if not self.person:
            await asyncio.Event().wait()
        if self.person.pop(0):
            return PermissionDecision(True)
        return PermissionDecision.deny(USER_DENIED, "user")

    async def question(self, tool_use_id: str, questions: Sequence[UserQuestion]) -> Answers:
        self.forms.append((tool_use_id, list(questions)))
        await self._say("question", tool_use_id)
        if self.answers is None:
            await asyncio.Event().wait()
        assert self.answers is not None
        return self.answers

    async def journal(self, *entries: dict[str, Any]) -> None:
        self.entries.extend(json.loads(json.dumps(entries)))

    async def usage(self, usage: TurnUsage) -> None:
        self.total = self.total + usage

    async def sdk_message(self, message: Mapping[str, Any]) -> None:
        self.raw.append(message)

    async def history(self) -> AsyncIterator[PastTurn]:
        for turn in reversed(self.past):
            yield turn

    async def count_turns_before(self, turn_id: str) -> int:
        return [turn.turn_id for turn in self.past].index(turn_id)

    async def sandbox(self) -> Sandbox:
        return self.sandbox_

    # ------------------------------------------------------------------ what the tests ask

    async def wait_for(self, *what: Any) -> None:
        """Until something was said that begins with ``what``."""
        async with asyncio.timeout(30), self.moved:
            await self.moved.wait_for(lambda: any(one[: len(what)] == what for one in self.events))

    @property
    def visible(self) -> str:
        return "".join(one[1] for one in self.events if one[0] == "text")

    @property
    def thought(self) -> str:
        return "".join(one[1] for one in self.events if one[0] == "thinking")

    @property
    def calls(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {one[1]: (one[2], one[3]) for one in self.events if one[0] == "call"}

    @property
    def results(self) -> dict[str, tuple[bool, str]]:
        return {one[1]: (one[2], one[3]) for one in self.events if one[0] == "result"}

    def next_turn(
        self, turn: Turn, state: TurnState = "done", code: str | None = None, engine: str = "acp"
    ) -> None:
        """What was said becomes history; the host is fresh for the next turn."""
        entries = tuple(self.entries)
        self.past.append(
            PastTurn(turn.turn_id, turn.content, state, code, entries, self.visible, engine)
        )
        for kept in (self.events, self.entries, self.raw, self.asked):
            kept.clear()


async def instructions(turn: Turn) -> str:
    return INSTRUCTIONS


@pytest.fixture
def limits() -> AgentLimits:
    return AgentLimits(start=10.0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    return tmp_path / "config"


@pytest.fixture
async def engine(home: Path, limits: AgentLimits) -> AsyncIterator[AcpEngine]:
    engine = AcpEngine(home, instructions, limits)
    yield engine
    await engine.close()


@pytest.fixture
async def sandbox(in_bubblewrap: Started) -> AsyncIterator[Sandbox]:
    async with in_bubblewrap() as sandbox:
        yield sandbox


@pytest.fixture
async def open_sandbox(unconfined: Started) -> AsyncIterator[Sandbox]:
    """One of tier ``none``."""
    async with unconfined() as sandbox:
        yield sandbox


@pytest.fixture
def host(sandbox: Sandbox) -> Host:
    return Host(sandbox)


def scripted(*behaviour: str, **more: Any) -> dict[str, Any]:
    command = ["python3", "-I", "-S", "-c", SCRIPTED.read_text(), *(behaviour or ("well",))]
    return {"command": command, "asks": True, **more}


def configure(home: Path, agent: dict[str, Any], **more: Any) -> None:
    (home / "config.json").write_text(json.dumps({"agents": {"bot": agent}, **more}))


def steps(*wanted: Any, mode: PermissionMode = "bypassPermissions", id: str = "turn_1") -> Turn:
    """A turn whose message tells the scripted agent what to do."""
    return replace(turn_of(json.dumps(wanted), id), permission_mode=mode)


LIST = r"""
for p in /proc/[0-9]*; do
  pid=${p#/proc/}; [ $pid -gt 1 ] && [ $pid != $$ ] || continue
  read -r line < $p/stat || continue
  rest=(${line##*) })
  [ "${rest[0]}" != Z ] && (( !(rest[6] & 4) )) || continue
  killed=; while read -r key value; do
    case $key in SigPnd: | ShdPnd:) (( 16#$value & 0x100 )) && killed=yes ;; esac
  done < $p/status
  [ -z "$killed" ] || continue
  echo $pid $(head -c 60 $p/cmdline | tr "\\0\\n" "  ")
done 2>/dev/null
"""
"""What lives inside. What is ending (PF_EXITING), or has been killed and had no processor since
(SIGKILL is pending), is not listed: on a busy machine it is there for a while."""


async def processes(sandbox: Sandbox) -> list[str]:
    """Pid and command line of what runs inside, without the supervisor and this look."""
    done = await sandbox.run(LIST, timeout=10)
    return [
        line
        for line in done.output.splitlines()
        if not line.partition(" ")[2].startswith(("cut", "bash -c for p", "bash -c  for p"))
    ]
