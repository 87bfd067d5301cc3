"""A :class:`TurnHost` in memory and a sandbox on a plain directory, for the engine's own tests.

The host keeps what it was told in order, and asks a scripted person: a call whose id or tool is
in ``ask`` suspends the turn until ``answers`` has something for it. The sandbox is the real
shape over the test's own directory; what a real sandbox isolates is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.ports.engine import (
    USER_DENIED,
    PastTurn,
    PermissionDecision,
    ToolCallStart,
    Turn,
    TurnState,
    TurnSuspended,
    TurnUsage,
    UserQuestion,
)
from loopat_jupyter.loops.ports.sandbox import CommandResult, FileError


@dataclass
class RefusingNetwork:
    """A way out that refuses what the test says."""

    refused: list[Destination] = field(default_factory=list)

    def drain_denied(self) -> list[Destination]:
        refused, self.refused = self.refused, []
        return refused


class DirectorySandbox:
    """``run`` and ``file`` over a directory of the test."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = str(workdir)
        self.home = str(workdir)
        self.running = asyncio.Event()
        self.killed = False
        self.confined: list[bool] = []
        self.network = RefusingNetwork()

    async def run(self, command: str, *, timeout: float, background: bool = False) -> CommandResult:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            command,
            cwd=self.workdir,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self.running.set()
        try:
            output, _ = await asyncio.wait_for(process.communicate(), timeout)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            return CommandResult(None, "", timed_out=True)
        except asyncio.CancelledError:
            os.killpg(process.pid, signal.SIGKILL)
            self.killed = True
            await process.wait()
            raise
        return CommandResult(process.returncode, output.decode("utf-8", "replace"))

    async def file(self, op: str, /, **args: Any) -> dict[str, Any]:
        return getattr(self, f"_{op}")(**args)

    def _path(self, path: str) -> Path:
        return Path(self.workdir) / path

    def _resolve(self, path: str) -> dict[str, Any]:
        real = self._path(path).resolve()
        inside = real.is_relative_to(Path(self.workdir).resolve())
        return {"path": str(real), "inside_workdir": inside}

    def _read(self, path: str, offset: int = 1, limit: int = 2000) -> dict[str, Any]:
        if not self._path(path).is_file():
            raise FileError(f"There is no file {path}.")
        lines = self._path(path).read_text().splitlines()
        shown = lines[offset - 1 : offset - 1 + limit]
        more = len(lines) > offset - 1 + len(shown)
        return {"lines": shown, "start": offset, "total_lines": len(lines), "truncated": more}

    def _write(self, path: str, text: str, confined: bool = False) -> dict[str, Any]:
        self.confined.append(confined)
        created = not self._path(path).exists()
        self._path(path).write_text(text)
        return {"created": created, "bytes": len(text.encode()), "path": path}

    def _edit(
        self, path: str, old: str, new: str, replace_all: bool = False, confined: bool = False
    ) -> dict[str, Any]:
        self.confined.append(confined)
        text = self._path(path).read_text()
        if old not in text:
            raise FileError("old_string is not in the file.")
        self._path(path).write_text(text.replace(old, new))
        return {"replacements": text.count(old), "path": path}

    def _glob(self, pattern: str, path: str | None = None) -> dict[str, Any]:
        found = sorted(str(p) for p in self._path(path or ".").glob(pattern))
        return {"paths": found, "truncated": False}

    def _grep(self, pattern: str, **_: Any) -> dict[str, Any]:
        found = [p.name for p in Path(self.workdir).iterdir() if pattern in p.read_text()]
        return {"lines": found, "truncated": False}


@dataclass
class MemoryHost:
    """See the module. ``events`` is ``(what, *details)`` in the order of the calls."""

    box: DirectorySandbox
    ask: set[str] = field(default_factory=set)
    deny: set[str] = field(default_factory=set)
    answers: dict[str, Any] = field(default_factory=dict)
    past: list[PastTurn] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    total: TurnUsage = field(default_factory=TurnUsage)
    confine: bool = False
    text_shown: asyncio.Event = field(default_factory=asyncio.Event)

    async def text(self, delta: str) -> None:
        self.events.append(("text", delta))
        self.text_shown.set()

    async def thinking(self, delta: str) -> None:
        self.events.append(("thinking", delta))

    async def tool_call(self, tool_use_id: str, tool: str, input: Mapping[str, Any] | str) -> None:
        if ("call", tool_use_id) not in [one[:2] for one in self.events]:
            self.events.append(("call", tool_use_id, tool, input))

    async def tool_result(
        self, tool_use_id: str, ok: bool, result: str, *, journal: Sequence[dict[str, Any]] = ()
    ) -> None:
        assert ("call", tool_use_id) in [one[:2] for one in self.events]
        assert ("result", tool_use_id) not in [one[:2] for one in self.events]
        self.entries.extend(journal)
        self.events.append(("result", tool_use_id, ok, result))

    async def permission(
        self, tool_use_id: str, tool: str, input: Mapping[str, Any], **shown: Any
    ) -> PermissionDecision:
        self.events.append(("permission", tool_use_id, tool, dict(input), shown))
        if tool in self.deny:
            denial = "User denied permission. The mode does not allow it."
            return PermissionDecision.deny(denial, "policy")
        asked = tool_use_id in self.ask or tool in self.ask
        if asked and not self._answer(tool_use_id):
            return PermissionDecision.deny(USER_DENIED, "user")
        return PermissionDecision(True, confined=self.confine)

    async def question(self, tool_use_id: str, questions: Sequence[UserQuestion]) -> Any:
        self.events.append(("question", tool_use_id, tuple(questions)))
        return self._answer(tool_use_id)

    def _answer(self, tool_use_id: str) -> Any:
        if tool_use_id not in self.answers:
            if not self.pending:
                self.pending.append(tool_use_id)
            raise TurnSuspended
        return self.answers[tool_use_id]

    async def journal(
        self,
        *entries: dict[str, Any],
        usage: TurnUsage | None = None,
        calls: Sequence[ToolCallStart] = (),
    ) -> None:
        self.entries.extend(entries)
        if usage is not None:
            await self.usage(usage)
        for call in calls:
            await self.tool_call(call.tool_use_id, call.tool, call.input)

    async def usage(self, usage: TurnUsage) -> None:
        self.total = self.total + usage

    async def sdk_message(self, message: Mapping[str, Any]) -> None:
        self.events.append(("raw", message))

    async def history(self) -> AsyncIterator[PastTurn]:
        for turn in reversed(self.past):
            yield turn

    async def count_turns_before(self, turn_id: str) -> int:
        return [turn.turn_id for turn in self.past].index(turn_id)

    async def sandbox(self) -> DirectorySandbox:
        return self.box

    # ------------------------------------------------------------------ what the tests ask

    @property
    def visible(self) -> str:
        return "".join(one[1] for one in self.events if one[0] == "text")

    @property
    def thought(self) -> str:
        return "".join(one[1] for one in self.events if one[0] == "thinking")

    @property
    def results(self) -> list[tuple[bool, str]]:
        return [(one[2], one[3]) for one in self.events if one[0] == "result"]

    def answer(self, value: Any) -> None:
        """Answer the one pending choice."""
        (tool_use_id,) = self.pending
        self.pending.clear()
        self.answers[tool_use_id] = value

    def resumed(self, turn: Turn) -> Turn:
        """The turn as it is taken up again, its journal through JSON as in a store."""
        import json

        return replace(turn, journal=tuple(json.loads(json.dumps(self.entries))))

    def ended(self, turn: Turn, state: TurnState = "done", code: str | None = None) -> PastTurn:
        """The turn as a later one's history has it."""
        return PastTurn(
            turn.turn_id, turn.content, state, code, self.resumed(turn).journal, self.visible
        )


def turn_of(content: str, turn_id: str = "turn_1") -> Turn:
    return Turn(
        turn_id=turn_id,
        loop_id="loop_1",
        owner="ada",
        content=content,
        permission_mode="default",
        vault="default",
        profiles=(),
        journal=(),
    )
