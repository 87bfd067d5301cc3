"""Resuming a turn whose CLI ended while a person was being asked.

The session file holds the model's message, with calls that have no result. A CLI that resumes the
session asks its hook again about the *one* call that the file marks as deferred, runs it, and goes
on to its model. So for several open calls the session is resumed once for each, in their order; all
but the last CLI are stopped after the call has its result and before the model is called. What a
person sees and what runs is the same as without the interruption.

* A CLI that exits in good order, or learns of the end of its sandbox, gives waiting calls a result
  of its own. None of them was allowed to run, so those results are dropped from the file.
* A call that had its result, which the file lacks because the CLI stores it a moment later, gets it
  from the journal.
* A command that ran, and whose result waited for an approval of the network, is not run again: its
  result is in the journal too, and is written into the file with the note about the network.
* A call that had been started may have run; its result is that nobody knows.
* A sub-agent ended with its CLI: the call that it waited for is not run, and the agent is told to
  start it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from ...loops.errors import TurnFailure
from ...loops.ports.engine import TurnHost
from ..agents.network_approval import ask_about_denied_hosts
from ..builtin.tool_calls import RESULT_UNKNOWN
from . import journal
from .cli_process import CliProcess
from .errors import LOST_SESSION
from .session import CliSession
from .tool_kinds import SUBAGENTS
from .turn_runner import TurnRunner, TurnState

SUBAGENT_LOST = (
    "This sub-agent ended while the user was being asked about one of its calls. What it had done "
    "before is done; that call was not run. Start it again if its work is still needed."
)
CONTINUE = (
    "[loopat: the server was restarted in the middle of this turn. Go on from where you were.]"
)
STORE_TIMEOUT = 5.0
"""Seconds to wait until a result is stored, before its CLI is ended."""


@dataclass(eq=False)
class Recovery:
    """``start`` starts a CLI that resumes the session, and keeps ``state`` with it."""

    state: TurnState
    host: TurnHost
    session: CliSession
    start: Callable[[], Awaitable[CliProcess]]

    async def run(self) -> None:
        """Raises what :meth:`.turn_runner.TurnRunner.run` does."""
        while call_ids := await self._calls_to_repeat():
            await self.session.defer(call_ids[0])
            cli = await self.start()
            cli.busy = True
            if len(call_ids) > 1:
                stop_after(cli, call_ids[0])
            await TurnRunner(self.state, cli, self.host).run()
            if not cli.stop_after_call:
                return
            await end_held(cli)
        cli = await self.start()
        await cli.send_message([{"type": "text", "text": CONTINUE}])
        await TurnRunner(self.state, cli, self.host).run()

    async def _calls_to_repeat(self) -> list[str]:
        """The calls that a new CLI must ask about again, in order; every other open call is given
        its result here, in the session file and to the host.

        Raises:
            TurnFailure: the session file is gone.
            TurnSuspended: a person must be asked about the network first.
        """
        turn_journal, ended = self.state.turn.journal, self.state.ended
        waiting, started = journal.unfinished_calls(turn_journal)
        waiting = [entry for entry in waiting if str(entry["id"]) not in ended]
        commands = journal.waiting_commands(turn_journal)
        commands = {call_id: entry for call_id, entry in commands.items() if call_id not in ended}
        found = await self._open_calls([*waiting, *commands.values()])
        self.state.stored_before = frozenset(found)
        self._restore_tracker(waiting, started)
        for entry in waiting:
            if entry.get("parent"):
                await self.host.tool_result(str(entry["name"]), False, SUBAGENT_LOST)
        kept = journal.kept_results(turn_journal)
        for call_id in found.keys() & kept.keys():
            result = kept[call_id]
            await self.session.close(call_id, str(result["text"]), ok=bool(result["ok"]))
        await self._finish_commands(commands)
        found = {i: tool for i, tool in found.items() if i not in commands and i not in kept}
        unknown = [call_id for call_id in found if call_id in started]
        for call_id in unknown:
            await self.session.close(call_id, RESULT_UNKNOWN)
            await self.host.tool_result(call_id, False, RESULT_UNKNOWN)
        subagents = [call_id for call_id, tool in found.items() if tool in SUBAGENTS]
        self.state.blocked.update(dict.fromkeys(subagents, SUBAGENT_LOST))
        return [call_id for call_id in found if call_id not in unknown]

    async def _open_calls(self, waiting: Sequence[journal.Entry]) -> dict[str, str]:
        """The calls without a result in the session file, with their tools; results that the file
        has of the main agent's ``waiting`` calls are dropped first."""
        own = [str(entry["id"]) for entry in waiting if not entry.get("parent")]
        found = await self.session.open_calls(own)
        if found is None:
            await self.host.journal(journal.lost_entry())
            raise TurnFailure(LOST_SESSION)
        return found

    async def _finish_commands(self, commands: Mapping[str, journal.Entry]) -> None:
        """Give commands that ran their results, when a person has been asked about the network."""
        for call_id, entry in commands.items():
            event_id, ok = str(entry["name"]), bool(entry["ok"])
            note = await ask_about_denied_hosts(
                event_id, str(entry["tool"]), list(entry["refused"]), self.host
            )
            text = f"{entry['text']}\n{note}"
            if not entry.get("parent"):
                await self.session.close(call_id, text, ok=ok)
            await self.host.tool_result(event_id, ok, text)
            await self.host.journal(journal.ended_entry(call_id))
            self.state.ended.add(call_id)

    def _restore_tracker(self, waiting: Sequence[journal.Entry], started: set[str]) -> None:
        """From the journal: which call ids are used up, and what a person was shown."""
        for call_id in started:
            self.state.calls.restore_ended(call_id)
        for entry in waiting:
            call_id = str(entry["id"])
            self.state.repeated[call_id] = entry
            self.state.calls.restore_announced(call_id, str(entry["name"]))


def stop_after(cli: CliProcess, call_id: str) -> None:
    """Let the CLI run this call, and hold it before it calls its model."""
    cli.stop_after_call = call_id
    cli.transport.stored(_row_of_result(call_id))


async def end_held(cli: CliProcess) -> None:
    """End a CLI that is held, when the result of its call is in the session file.

    Raises:
        TimeoutError: the result was not stored in time; the CLI is ended all the same.
    """
    try:
        async with asyncio.timeout(STORE_TIMEOUT):
            await cli.transport.stored(_row_of_result(cli.stop_after_call)).wait()
    finally:
        await cli.kill()


def _row_of_result(call_id: str) -> str:
    """What the session file's row of a result holds."""
    return f'"tool_use_id":"{call_id}"'
