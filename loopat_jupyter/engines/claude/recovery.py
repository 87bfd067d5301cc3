"""Going on with a turn whose CLI ended while a person was being asked.

The session file holds the model's answer, with calls that have no result. A CLI that resumes asks
its hook again about the *one* call that the file marks as deferred, runs it, and goes on to its
model. So for several open calls it is resumed once for each, in their order; all but the last
are stopped after the call has its result and before the model is asked. What a person sees and
what runs is the same as if nothing had happened.

A CLI that is ended in good order, or hears of the end of its sandbox first, gives the calls that
wait a result of its own. None of them was let run, so what the file says about them is dropped.

A call that had its result, which the file lacks because the CLI stores it a moment later, gets it
from the journal. A command that ran, and whose result waited for a word about the network, is not
run again either: its result is in the journal too, and is written into the file with that word.

Two kinds of calls cannot be asked again. One that had been started may have run; its result is that
nobody knows. And a sub-agent ended with its CLI: the call that it waited for is not run, and the
agent is told to start it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...loops.errors import TurnFailure
from ...loops.ports.engine import TurnHost
from ..agents.network_approval import ask_about_host
from ..builtin.tool_calls import RESULT_UNKNOWN
from .catch_up import LOST
from .cli_process import CliProcess
from .errors import LOST_SESSION
from .journal import results_that_wait, results_told
from .session import CliSession
from .tool_kinds import SUBAGENTS
from .turn_runner import TurnRunner, TurnState

SUBAGENT_LOST = (
    "This sub-agent ended while the user was being asked about one of its calls. What it had done "
    "before is done; that call was not run. Start it again if its work is still needed."
)
GO_ON = "[loopat: the server was restarted in the middle of this turn. Go on from where you were.]"
KEPT_PATIENCE = 5.0
"""Seconds to wait for a result to be stored before its CLI is ended."""


@dataclass(eq=False)
class Recovery:
    """``start`` starts a CLI on the session and keeps it with this course."""

    course: TurnState
    host: TurnHost
    session: CliSession
    start: Callable[[], Awaitable[CliProcess]]

    async def run(self) -> None:
        """Raises what :meth:`.course.TurnRunner.to_the_end` does."""
        while owed := await self._calls_to_repeat():
            await self.session.defer(owed[0])
            agent = await self.start()
            agent.busy = True
            if len(owed) > 1:
                hold_after(agent, owed[0])
            await TurnRunner(self.course, agent, self.host).run()
            if not agent.held_after:
                return
            await release(agent)
        agent = await self.start()
        await agent.say([{"type": "text", "text": GO_ON}])
        await TurnRunner(self.course, agent, self.host).run()

    async def _calls_to_repeat(self) -> list[str]:
        """The calls to be asked again; all others are given their result here."""
        waiting, started = unanswered(self.course.turn.journal)
        waiting = [entry for entry in waiting if str(entry["id"]) not in self.course.settled]
        ran = results_that_wait(self.course.turn.journal)
        ran = {ident: entry for ident, entry in ran.items() if ident not in self.course.settled}
        own = [str(entry["id"]) for entry in (*waiting, *ran.values()) if not entry.get("parent")]
        found = await self.session.open_calls(own)
        if found is None:
            await self.host.journal({"type": LOST})
            raise TurnFailure(LOST_SESSION)
        self.course.stored = frozenset(found)
        self._restore_tracker(waiting, started)
        for entry in waiting:
            if entry.get("parent"):
                await self.host.tool_result(str(entry["name"]), False, SUBAGENT_LOST)
        told = results_told(self.course.turn.journal)
        for ident in found.keys() & told.keys():
            await self.session.close(ident, str(told[ident]["text"]), ok=bool(told[ident]["ok"]))
        await self._tell_results(ran)
        found = {i: tool for i, tool in found.items() if i not in ran and i not in told}
        lost = [ident for ident in found if ident in started]
        for ident in lost:
            await self.session.close(ident, RESULT_UNKNOWN)
            await self.host.tool_result(ident, False, RESULT_UNKNOWN)
        agents = [ident for ident, tool in found.items() if tool in SUBAGENTS]
        self.course.refused.update(dict.fromkeys(agents, SUBAGENT_LOST))
        return [ident for ident in found if ident not in lost]

    async def _tell_results(self, ran: Mapping[str, Mapping[str, Any]]) -> None:
        """Commands that ran, and whose results waited for a word about the network."""
        for ident, entry in ran.items():
            name, ok = str(entry["name"]), bool(entry["ok"])
            note = await ask_about_host(name, str(entry["tool"]), list(entry["refused"]), self.host)
            text = f"{entry['text']}\n{note}"
            if not entry.get("parent"):
                await self.session.close(ident, text, ok=ok)
            await self.host.tool_result(name, ok, text)
            await self.host.journal({"type": "claude_ended", "id": ident})
            self.course.settled.add(ident)

    def _restore_tracker(self, waiting: list[Mapping[str, Any]], started: set[str]) -> None:
        """What the course knew before: which ids are used up, and what a person was shown."""
        for call_id in started:
            self.course.ledger.forget(call_id)
        for entry in waiting:
            call_id = str(entry["id"])
            self.course.shown[call_id] = entry
            self.course.ledger.remember(call_id, str(entry["name"]))


def hold_after(agent: CliProcess, call_id: str) -> None:
    """Let the CLI run this call and stop before it asks its model."""
    agent.held_after = call_id
    agent.pipe.stored(_result_of(call_id))


async def release(agent: CliProcess) -> None:
    """End a CLI that is held; what its call gave is in the session file."""
    try:
        async with asyncio.timeout(KEPT_PATIENCE):
            await agent.pipe.stored(_result_of(agent.held_after)).wait()
    finally:
        await agent.kill()


def _result_of(call_id: str) -> str:
    return f'"tool_use_id":"{call_id}"'


def unanswered(journal: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], set[str]]:
    """From a turn's journal: the calls a person was, or may have been, asked about and that were
    not started; and the ids of those that were started."""
    calls: dict[str, Mapping[str, Any]] = {}
    started: set[str] = set()
    for entry in journal:
        if entry.get("type") == "claude_call":
            calls[str(entry["id"])] = entry
        elif entry.get("type") == "claude_started":
            started.add(str(entry["id"]))
        elif entry.get("type") == "claude_ended":
            calls.pop(str(entry["id"]), None)
    return [entry for ident, entry in calls.items() if ident not in started], started
