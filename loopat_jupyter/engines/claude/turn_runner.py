"""One turn on its way through a living CLI.

A stretch takes what comes out of the agent's inbox and puts it to the host, until the turn ends, or
rests because a person must be asked and nothing else is going on. A turn that rests keeps its
course with the agent: the CLI's hooks stay open, and the next stretch answers them. Where the CLI
has ended meanwhile, :mod:`.recovery` makes a new one ask the same calls again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...loops.errors import TurnFailure
from ...loops.ports.engine import Turn, TurnHost, TurnSuspended
from ..agents.network_approval import ask_about_host
from . import permission_hook
from .catch_up import SESSION
from .cli_process import (
    CliProcess,
    CommandFinished,
    Event,
    HeldBeforeModel,
    MessageReceived,
    ToolRequested,
)
from .error_capture import ErrorCapturingUpstream
from .errors import provider_failed, result_text, stopped
from .journal import ENDED, ended_entry, ran_entry
from .text_stream import IncompleteMessage, TextStream, blocks_of
from .tool_call_tracker import ToolCallTracker, TrackedCall, text_of_result
from .tool_kinds import ASK, kind_of
from .usage_counter import UsageCounter

ASKING = frozenset({"default", "acceptEdits"})
"""The modes in which a person may be asked about a tool."""
FLUSH_PATIENCE = 2.0
"""Seconds to wait for the CLI to store a call before a person is asked about it."""
NOT_ITS_PROTOCOL = "it writes what is not its protocol"
NO_RESULT = "No result: the turn ended before this call had."
STRANGE_MAX = 5000
"""Messages of no known type in a row before the CLI is given up."""


@dataclass(eq=False)
class TurnState:
    """What is kept of a turn while it rests in this server."""

    turn: Turn
    model: str
    secrets: tuple[str, ...]
    upstream: ErrorCapturingUpstream
    ledger: ToolCallTracker = field(default_factory=ToolCallTracker)
    speech: TextStream = field(default_factory=TextStream)
    tally: UsageCounter = field(default_factory=UsageCounter)
    waiting: dict[str, ToolRequested | CommandFinished] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Calls that are not to run when they are asked again, and why."""
    stored: frozenset[str] = frozenset()
    """Calls that were in the session file before this CLI started."""
    shown: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Journal entries of the calls that a person was asked about before this CLI started."""
    settled: set[str] = field(default_factory=set)
    """Calls that have their result."""
    session_noted: bool = False
    provider_said: str = ""


@dataclass(eq=False)
class TurnRunner:
    """One stretch of a course: what comes from the agent, put to the host."""

    course: TurnState
    agent: CliProcess
    host: TurnHost
    strange: int = 0

    async def run(self) -> None:
        """Returns when the turn is done, or the CLI is held after a call that was asked again.

        Raises:
            TurnFailed: the turn cannot go on.
            TurnSuspended: a person must be asked. The course goes on from here.
        """
        while not await self.handle_event():
            if not self.agent.has_more and self.course.ledger.resting:
                await self.host.usage(self.course.tally.at_rest())
                raise TurnSuspended

    async def ask_again(self) -> None:
        """Put what waits to the host once more; some of it has been answered."""
        for call in list(self.course.waiting.values()):
            await (self._asked(call) if isinstance(call, ToolRequested) else self._ran(call))
        if self.course.ledger.resting and not self.agent.has_more:
            raise TurnSuspended

    async def note_session(self) -> None:
        """From here on the conversation is in a session that later turns can resume."""
        if not self.course.session_noted:
            self.course.session_noted = True
            await self.host.journal({"type": SESSION, "id": self.agent.session_id})

    async def handle_event(self) -> bool:
        """Take one event; whether the turn has ended."""
        self.agent.tools_run(self.course.ledger.any_running)
        event = await self._next()
        if self.agent.pipe.has_stored:
            await self.note_session()
        if isinstance(event, MessageReceived):
            return await self._said(event.message)
        if isinstance(event, ToolRequested):
            await self._asked(event)
            return False
        if isinstance(event, CommandFinished):
            await self._ran(event)
            return False
        if isinstance(event, HeldBeforeModel):
            return True
        raise stopped(event.why, self.agent.pipe.stderr, self.course.secrets)

    async def _next(self) -> Event:
        if self.course.ledger.anything_open:
            return await self.agent.next()
        try:
            async with asyncio.timeout(self.agent.limits.silence):
                return await self.agent.next()
        except TimeoutError:
            raise stopped("it says nothing any more", "", ()) from None

    # ------------------------------------------------------------------ calls

    async def _asked(self, call: ToolRequested) -> None:
        course, ledger = self.course, self.course.ledger
        if call.answer.done():  # the CLI has withdrawn it
            course.waiting.pop(call.id, None)
            return
        entry = await ledger.announce(
            call.id, call.tool, call.input, ledger.parent(call.agent_id), self.host
        )
        shown = course.shown.pop(call.id, None)
        reason = course.refused.get(call.id) or permission_hook.refusal(call, shown)
        try:
            if reason is not None:
                output = permission_hook.deny(reason)
            else:
                await self._make_durable(call, entry)
                output = await permission_hook.decide_permission(
                    call, entry, self.agent.sandbox, self.host
                )
        except TurnSuspended:
            entry.waiting = True
            course.waiting[call.id] = call
            return
        entry.waiting = False
        course.waiting.pop(call.id, None)
        if permission_hook.is_allowed(output):
            if self._may_wait(call):
                await self.host.journal({"type": "claude_started", "id": call.id})
                entry.noted = True
            self.agent.allowed.add(call.id)
            entry.running = True
        if not call.answer.done():
            call.answer.set_result(output)

    async def _ran(self, ran: CommandFinished) -> None:
        """A command was refused destinations: ask about them before the model sees its result."""
        course, entry = self.course, self.course.ledger.find(ran.id)
        if entry is None or ran.answer.done():
            course.waiting.pop(ran.id, None)
            if not ran.answer.done():
                ran.answer.set_result({})
            return
        if course.turn.permission_mode in ASKING and ran.id not in course.waiting:
            await self.host.journal(ran_entry(ran, entry))
        try:
            note = await ask_about_host(entry.name, ran.tool, ran.refused, self.host)
        except TurnSuspended:
            entry.running, entry.waiting = False, True
            course.waiting[ran.id] = ran
            return
        entry.running, entry.waiting = True, False
        course.waiting.pop(ran.id, None)
        told = {"hookEventName": ran.hook, "additionalContext": note}
        ran.answer.set_result({"hookSpecificOutput": told})

    def _may_wait(self, call: ToolRequested) -> bool:
        if call.tool == ASK:
            return True
        return self.course.turn.permission_mode in ASKING and kind_of(call.tool) != "read"

    async def _make_durable(self, call: ToolRequested, entry: TrackedCall) -> None:
        """Before a person is asked, everything that is needed to go on is on disk."""
        if not self._may_wait(call) or call.id in self.course.waiting:
            return
        await self.note_session()
        entry.journaled = True
        running = self.course.ledger.start_unnoted()
        await self.host.journal(
            *({"type": "claude_started", "id": ident} for ident in running),
            {
                "type": "claude_call",
                "id": call.id,
                "name": entry.name,
                "tool": call.tool,
                "input": dict(call.input),
                "parent": entry.parent,
            },
        )
        root = self.course.ledger.root(call.id)
        if root not in self.course.stored:
            try:
                async with asyncio.timeout(FLUSH_PATIENCE):
                    await self.agent.pipe.stored(_row_of(root)).wait()
            except TimeoutError:
                return  # then it survives as long as this CLI does

    # ------------------------------------------------------------------ messages

    async def _said(self, message: Mapping[str, Any]) -> bool:
        try:
            return await self._handle_message(message)
        except IncompleteMessage:
            raise TurnFailure(
                f"The answer of {self.course.model} broke off. Ask it to go on."
            ) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise stopped(NOT_ITS_PROTOCOL, "", ()) from error

    async def _handle_message(self, message: Mapping[str, Any]) -> bool:
        """Whether it was the turn's end."""
        kind = message.get("type")
        await self.host.sdk_message(message)
        self.strange = 0 if kind in _KNOWN else self.strange + 1
        if self.strange > STRANGE_MAX:
            raise stopped("it writes what nobody understands", "", ())
        main = not message.get("parent_tool_use_id")
        if kind == "stream_event" and main:
            event = message.get("event")
            if isinstance(event, Mapping):
                self.course.tally.stream(event)
                await self.course.speech.delta(event, self.host)
        elif kind == "assistant":
            await self._assistant(message, main=main)
        elif kind == "user":
            await self._user(message)
        elif kind == "system":
            self._system(message)
        elif kind == "result":
            await self._result(message)
            return True
        return False

    def _system(self, message: Mapping[str, Any]) -> None:
        if message.get("subtype") == "task_started":
            self.course.ledger.started_agent(
                str(message.get("task_id")), str(message.get("tool_use_id"))
            )
        elif message.get("subtype") == "api_retry":
            refusal = self.course.upstream.refusal
            if refusal is not None and refusal.final:  # trying again cannot help
                raise self._refused(refusal.text, refusal.status)

    async def _assistant(self, message: Mapping[str, Any], *, main: bool) -> None:
        body = message.get("message")
        if not isinstance(body, Mapping):
            return
        if message.get("error"):
            if main:
                self.course.provider_said = text_of_result(body)
            return
        if main:
            await self.course.speech.message(body, self.host)
        parent = message.get("parent_tool_use_id")
        for block in blocks_of(body):
            if block.get("type") != "tool_use":
                continue
            call_id, sent = str(block.get("id", "")), block.get("input")
            if self.course.turn.permission_mode in ASKING or block.get("name") == ASK:
                self.agent.pipe.stored(_row_of(call_id))
            await self.course.ledger.announce(
                call_id,
                str(block.get("name", "")),
                sent if isinstance(sent, Mapping | str) else {},
                str(parent) if parent else None,
                self.host,
            )

    async def _user(self, message: Mapping[str, Any]) -> None:
        body = message.get("message")
        if not isinstance(body, Mapping):
            return
        for block in blocks_of(body):
            if block.get("type") != "tool_result":
                continue
            call_id = str(block.get("tool_use_id", ""))
            ok, text = not block.get("is_error"), text_of_result(block)
            entry = await self.course.ledger.result(call_id, ok, text, self.host)
            if entry is not None:
                self.course.settled.add(call_id)
                await self._note_end(call_id, entry, ok, text)

    async def _note_end(self, call_id: str, entry: TrackedCall, ok: bool, text: str) -> None:
        """The CLI stores a result some time after it has said it. While another call is open the
        turn may come to rest, and its CLI be lost: so the result is kept here as well."""
        if self.course.ledger.anything_open and entry.parent is None:
            await self.host.journal(ended_entry(call_id, ok, text))
        elif entry.journaled:
            await self.host.journal({"type": ENDED, "id": call_id})

    async def _result(self, result: Mapping[str, Any]) -> None:
        self.agent.busy = False
        await self.host.usage(self.course.tally.at_end(result))
        await self.course.ledger.end_all(NO_RESULT, self.host)
        if result.get("is_error"):
            raise self._failure(result)

    def _failure(self, result: Mapping[str, Any]) -> TurnFailure:
        if result.get("subtype") == "error_max_turns":
            return TurnFailure(
                "The turn has asked its model as often as one turn may without coming to an end. "
                "Send another message to let it go on.",
                code="budget_exceeded",
            )
        status, refusal = result.get("api_error_status"), self.course.upstream.refusal
        text = self.course.provider_said or result_text(result)
        if refusal is not None:
            return self._refused(refusal.text, refusal.status)
        if self.course.provider_said or status or "API Error" in text:
            return self._refused(text, status if isinstance(status, int) else None)
        return stopped(text or "it gave no reason", "", self.course.secrets)

    def _refused(self, text: str, status: int | None) -> TurnFailure:
        return provider_failed(self.course.model, text, status, self.course.secrets)


_KNOWN = frozenset(
    {"stream_event", "assistant", "user", "system", "result", "attachment", "command_lifecycle"}
)


def _row_of(call_id: str) -> str:
    return f'"id":"{call_id}"'
