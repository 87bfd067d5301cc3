"""One turn in a running CLI: the CLI's events are handled until the turn ends or is suspended.

A turn is suspended when a person must be asked and nothing else goes on. Its state is then kept
with the CLI, whose hooks stay open; the next run of the turn completes them. Where the CLI has
ended meanwhile, :mod:`.recovery` has a new one ask about the same calls again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...loops.errors import TurnFailure
from ...loops.ports.engine import Turn, TurnHost, TurnSuspended
from ..agents.network_approval import ASKING_MODES, ask_about_denied_hosts
from . import journal, permission_hook
from .cli_process import (
    CliProcess,
    CommandFinished,
    Event,
    HeldBeforeModel,
    MessageReceived,
    ToolRequested,
)
from .errors import ErrorCapturingUpstream, ProviderError, provider_failed, result_error, stopped
from .text_stream import IncompleteMessage, TextStream, blocks_of
from .tool_call_tracker import ToolCallTracker, TrackedCall, text_of_result
from .tool_kinds import ASK, kind_of
from .usage_counter import UsageCounter

STORE_TIMEOUT = 2.0
"""Seconds to wait until the CLI has stored a call, before a person is asked about it."""
INVALID_PROTOCOL = "it writes what is not its protocol"
NO_RESULT = "No result: the turn ended before this call had."
UNKNOWN_MAX = 5000
"""Messages of unknown types in a row before the CLI is given up."""


@dataclass(eq=False)
class TurnState:
    """What is kept of a turn while it is suspended. ``model`` is ``provider/model``; ``secrets``
    are removed from the text of failures."""

    turn: Turn
    model: str
    secrets: tuple[str, ...]
    upstream: ErrorCapturingUpstream
    calls: ToolCallTracker = field(default_factory=ToolCallTracker)
    text: TextStream = field(default_factory=TextStream)
    usage: UsageCounter = field(default_factory=UsageCounter)
    waiting: dict[str, ToolRequested | CommandFinished] = field(default_factory=dict)
    """By call id: the hooks whose output waits for a person."""
    blocked: dict[str, str] = field(default_factory=dict)
    """Calls that must not run when they are asked about again, and why."""
    stored_before: frozenset[str] = frozenset()
    """Calls that were in the session file before this CLI started."""
    repeated: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Journal entries of the calls that a person was asked about before this CLI started."""
    ended: set[str] = field(default_factory=set)
    """Calls that have their result."""
    session_journaled: bool = False
    model_error: str = ""
    """The CLI's report of a failed model call."""


@dataclass(eq=False)
class TurnRunner:
    """One run of a turn, from its start or a person's answer to its end or the next wait."""

    state: TurnState
    cli: CliProcess
    host: TurnHost
    unknown_messages: int = 0

    async def run(self) -> None:
        """Returns when the turn has ended, or the CLI is held after a call that was repeated.

        Raises:
            TurnFailure: the turn cannot go on.
            TurnSuspended: a person must be asked; the turn can be resumed from here.
        """
        while not await self.handle_event():
            if not self.cli.has_events and self.state.calls.can_suspend:
                await self.host.usage(self.state.usage.at_suspension())
                raise TurnSuspended

    async def retry_waiting(self) -> None:
        """Ask the host again about each call that waits; for some it has the person's answer.

        Raises:
            TurnSuspended: there is none that the turn could go on with.
        """
        for event in list(self.state.waiting.values()):
            if isinstance(event, ToolRequested):
                await self._handle_tool_request(event)
            else:
                await self._handle_command_finished(event)
        if self.state.calls.can_suspend and not self.cli.has_events:
            raise TurnSuspended

    async def journal_session(self) -> None:
        """From here on the conversation is in a session that later turns can resume."""
        if not self.state.session_journaled:
            self.state.session_journaled = True
            await self.host.journal(journal.session_entry(self.cli.session_id))

    async def handle_event(self) -> bool:
        """Take and handle one event; returns whether this run is over."""
        self.cli.note_tools(self.state.calls.any_running)
        event = await self._next_event()
        if self.cli.transport.session_stored:
            await self.journal_session()
        if isinstance(event, MessageReceived):
            return await self._handle_message(event.message)
        if isinstance(event, ToolRequested):
            await self._handle_tool_request(event)
            return False
        if isinstance(event, CommandFinished):
            await self._handle_command_finished(event)
            return False
        if isinstance(event, HeldBeforeModel):
            return True
        raise stopped(event.reason, self.cli.transport.error_line, self.state.secrets)

    async def _next_event(self) -> Event:
        if self.state.calls.any_open:
            return await self.cli.next_event()
        try:
            async with asyncio.timeout(self.cli.limits.silence):
                return await self.cli.next_event()
        except TimeoutError:
            raise stopped("it says nothing any more", "", ()) from None

    # ------------------------------------------------------------------ calls

    async def _handle_tool_request(self, request: ToolRequested) -> None:
        """Decide whether a call may run, and give the CLI's hook its output. A call that a person
        must be asked about becomes one that waits."""
        state = self.state
        if request.output.done():  # the CLI has withdrawn it
            state.waiting.pop(request.id, None)
            return
        call = await state.calls.announce(
            request.id,
            request.tool,
            request.input,
            state.calls.parent_of(request.agent_id),
            self.host,
        )
        repeated = state.repeated.pop(request.id, None)
        reason = state.blocked.get(request.id) or permission_hook.denial_reason(request, repeated)
        try:
            if reason is not None:
                output = permission_hook.deny(reason)
            else:
                await self._make_durable(request, call)
                output = await permission_hook.decide_permission(
                    request, call, self.cli.sandbox, self.host
                )
        except TurnSuspended:
            call.waiting = True
            state.waiting[request.id] = request
            return
        call.waiting = False
        state.waiting.pop(request.id, None)
        if permission_hook.is_allowed(output):
            await self._note_allowed(request, call)
        if not request.output.done():
            request.output.set_result(output)

    async def _note_allowed(self, request: ToolRequested, call: TrackedCall) -> None:
        if self._may_wait(request):
            await self.host.journal(journal.started_entry(request.id))
            call.start_journaled = True
        self.cli.allowed.add(request.id)
        call.running = True

    async def _handle_command_finished(self, command: CommandFinished) -> None:
        """A command was refused destinations: ask about them before the model sees its result."""
        state, call = self.state, self.state.calls.find(command.id)
        if call is None or command.hook_output.done():
            state.waiting.pop(command.id, None)
            if not command.hook_output.done():
                command.hook_output.set_result({})
            return
        if state.turn.permission_mode in ASKING_MODES and command.id not in state.waiting:
            await self.host.journal(journal.command_entry(command, call))
        try:
            note = await ask_about_denied_hosts(
                call.event_id, command.tool, command.denied_hosts, self.host
            )
        except TurnSuspended:
            call.running, call.waiting = False, True
            state.waiting[command.id] = command
            return
        call.running, call.waiting = True, False
        state.waiting.pop(command.id, None)
        specific = {"hookEventName": command.hook, "additionalContext": note}
        command.hook_output.set_result({"hookSpecificOutput": specific})

    def _may_wait(self, request: ToolRequested) -> bool:
        """Whether a person may have to be asked about the call."""
        if request.tool == ASK:
            return True
        mode = self.state.turn.permission_mode
        return mode in ASKING_MODES and kind_of(request.tool) != "read"

    async def _make_durable(self, request: ToolRequested, call: TrackedCall) -> None:
        """Have everything on disk that a later run needs, before a person is asked: the session,
        the calls that run, this call, and the CLI's own record of it. Where the CLI has not stored
        that in time, the choice lives only as long as this CLI."""
        if not self._may_wait(request) or request.id in self.state.waiting:
            return
        await self.journal_session()
        call.journaled = True
        started = self.state.calls.take_unjournaled_starts()
        await self.host.journal(
            *(journal.started_entry(call_id) for call_id in started),
            journal.call_entry(request, call),
        )
        root = self.state.calls.root_of(request.id)
        if root not in self.state.stored_before:
            try:
                async with asyncio.timeout(STORE_TIMEOUT):
                    await self.cli.transport.stored(_row_of_call(root)).wait()
            except TimeoutError:
                return

    # ------------------------------------------------------------------ messages

    async def _handle_message(self, message: Mapping[str, Any]) -> bool:
        """Whether the message was the turn's end. Any shape that is not the protocol's is a
        failure of the CLI, not of the server."""
        try:
            return await self._dispatch_message(message)
        except IncompleteMessage:
            raise TurnFailure(
                f"The answer of {self.state.model} broke off. Ask it to go on."
            ) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise stopped(INVALID_PROTOCOL, "", ()) from error

    async def _dispatch_message(self, message: Mapping[str, Any]) -> bool:
        kind = message.get("type")
        await self.host.sdk_message(message)
        self.unknown_messages = 0 if kind in _KNOWN else self.unknown_messages + 1
        if self.unknown_messages > UNKNOWN_MAX:
            raise stopped("it writes what nobody understands", "", ())
        main = not message.get("parent_tool_use_id")
        if kind == "stream_event" and main:
            event = message.get("event")
            if isinstance(event, Mapping):
                self.state.usage.add_event(event)
                await self.state.text.add_event(event, self.host)
        elif kind == "assistant":
            await self._handle_assistant(message, main=main)
        elif kind == "user":
            await self._handle_user(message)
        elif kind == "system":
            self._handle_system(message)
        elif kind == "result":
            await self._handle_result(message)
            return True
        return False

    def _handle_system(self, message: Mapping[str, Any]) -> None:
        if message.get("subtype") == "task_started":
            self.state.calls.add_subagent(
                str(message.get("task_id")), str(message.get("tool_use_id"))
            )
        elif message.get("subtype") == "api_retry":
            error = self.state.upstream.error
            if error is not None and error.permanent:  # a retry cannot help
                raise self._provider_failure(error)

    async def _handle_assistant(self, message: Mapping[str, Any], *, main: bool) -> None:
        body = message.get("message")
        if not isinstance(body, Mapping):
            return
        if message.get("error"):
            if main:
                self.state.model_error = text_of_result(body)
            return
        if main:
            await self.state.text.add_message(body, self.host)
        parent = message.get("parent_tool_use_id")
        for block in blocks_of(body):
            if block.get("type") == "tool_use":
                await self._announce_block(block, str(parent) if parent else None)

    async def _announce_block(self, block: Mapping[str, Any], parent: str | None) -> None:
        call_id, tool_input = str(block.get("id", "")), block.get("input")
        if self.state.turn.permission_mode in ASKING_MODES or block.get("name") == ASK:
            # The CLI may store the call before its hook comes, so watch for it from now on.
            self.cli.transport.stored(_row_of_call(call_id))
        await self.state.calls.announce(
            call_id,
            str(block.get("name", "")),
            tool_input if isinstance(tool_input, Mapping | str) else {},
            parent,
            self.host,
        )

    async def _handle_user(self, message: Mapping[str, Any]) -> None:
        body = message.get("message")
        if not isinstance(body, Mapping):
            return
        for block in blocks_of(body):
            if block.get("type") != "tool_result":
                continue
            call_id = str(block.get("tool_use_id", ""))
            ok, text = not block.get("is_error"), text_of_result(block)
            call = await self.state.calls.record_result(call_id, ok, text, self.host)
            if call is not None:
                self.state.ended.add(call_id)
                await self._journal_result(call_id, call, ok, text)

    async def _journal_result(self, call_id: str, call: TrackedCall, ok: bool, text: str) -> None:
        """The CLI stores a result some time after it has written it. While another call is open
        the turn may be suspended and its CLI lost: so the result is kept here as well."""
        if self.state.calls.any_open and call.parent is None:
            await self.host.journal(journal.result_entry(call_id, ok, text))
        elif call.journaled:
            await self.host.journal(journal.ended_entry(call_id))

    async def _handle_result(self, result: Mapping[str, Any]) -> None:
        self.cli.busy = False
        await self.host.usage(self.state.usage.at_end(result))
        await self.state.calls.end_all(NO_RESULT, self.host)
        if result.get("is_error"):
            raise self._result_failure(result)

    def _result_failure(self, result: Mapping[str, Any]) -> TurnFailure:
        if result.get("subtype") == "error_max_turns":
            return TurnFailure(
                "The turn has asked its model as often as one turn may without coming to an end. "
                "Send another message to let it go on.",
                code="budget_exceeded",
            )
        status, error = result.get("api_error_status"), self.state.upstream.error
        if error is not None:
            return self._provider_failure(error)
        text = self.state.model_error or result_error(result)
        if self.state.model_error or status or "API Error" in text:
            status = status if isinstance(status, int) else None
            return self._provider_failure(ProviderError(status, text))
        return stopped(text or "it gave no reason", "", self.state.secrets)

    def _provider_failure(self, error: ProviderError) -> TurnFailure:
        return provider_failed(self.state.model, error.text, error.status, self.state.secrets)


_KNOWN = frozenset(
    {"stream_event", "assistant", "user", "system", "result", "attachment", "command_lifecycle"}
)


def _row_of_call(call_id: str) -> str:
    """What the session file's row of a call holds."""
    return f'"id":"{call_id}"'
