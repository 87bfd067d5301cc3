"""What an engine may do while it runs one turn.

It sanitizes what comes from a model, evaluates the permission policy, and stores before it returns.
One object serves one run of a turn: from its begin, or from a person's answer, until the turn ends
or is suspended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from .destinations import Destination, parse_destination
from .event_broadcaster import EventBroadcaster
from .models import (
    ChoiceKind,
    ChoiceRecord,
    NewToolCall,
    NewToolResult,
    RuleRecord,
    TurnRecord,
    TurnUpdate,
    new_choice_id,
    to_json,
)
from .permissions import evaluate, is_remembered
from .ports.engine import (
    USER_DENIED,
    Answers,
    PastTurn,
    PermissionDecision,
    PermissionMode,
    ToolCallStart,
    ToolKind,
    TurnSuspended,
    TurnUsage,
    UserQuestion,
)
from .ports.network import NETWORK, Network
from .ports.sandbox import Sandbox
from .ports.store import StorePort
from .text import sanitize_text

SUMMARY_FIELDS = ("command", "file_path", "path", "query", "url")
SUMMARY_LIMIT = 200

FIRST_PAGE_TURNS, PAGE_TURNS = 4, 32
"""Past turns that an engine reads with one query: at first, and at most."""

PLAN_DENIED = (
    "User denied permission: the loop is in plan mode, where nothing is changed. Say what you "
    "would do instead."
)
DONT_ASK_DENIED = (
    "User denied permission: this mode does not ask, and no remembered rule allows this call."
)

NETWORK_DENIED = (
    "it is on no allow-list of this loop, and in this permission mode nobody is asked. The "
    "administrator can allow it in the loop's profile."
)


def input_summary(tool_input: Mapping[str, Any] | str) -> str | None:
    """The first of :data:`SUMMARY_FIELDS` that the input has, in at most 200 characters."""
    if isinstance(tool_input, str):
        return None
    for name in SUMMARY_FIELDS:
        value = tool_input.get(name)
        if isinstance(value, str) and value:
            return sanitize_text(value)[:SUMMARY_LIMIT]
    return None


class TurnContext:
    """Implements :class:`~loopat_jupyter.loops.ports.engine.TurnHost` for one turn."""

    def __init__(
        self,
        turn: TurnRecord,
        mode: PermissionMode,
        store: StorePort,
        event_log: EventBroadcaster,
        acquire_sandbox: Callable[[], Awaitable[Sandbox]],
        *,
        durable_choices: bool,
        choices: Sequence[ChoiceRecord],
        on_waiting: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """``on_waiting`` is called with ``True`` when an engine without durable choices begins to
        wait for a person, and with ``False`` afterwards; its sandbox is idle meanwhile."""
        self._turn = turn
        self._mode = mode
        self._store = store
        self._log = event_log
        self._acquire_sandbox = acquire_sandbox
        self._durable = durable_choices
        self._choices = {choice.tool_use_id: choice for choice in choices}
        self._network: Network | None = None
        self._remembered: set[Destination] = set()
        self._announced: set[str] = set()
        self._rules: Sequence[RuleRecord] | None = None
        self._rules_version = 0
        self._on_waiting = on_waiting
        self._asking = asyncio.Lock()
        self._answered: dict[str, asyncio.Future[None]] = {}

    # ------------------------------------------------------------------ output of the agent

    async def text(self, delta: str) -> None:
        await self._append_delta("assistant_delta", delta)

    async def thinking(self, delta: str) -> None:
        await self._append_delta("thinking_delta", delta)

    async def _append_delta(self, name: str, delta: str) -> None:
        if delta:
            await self._store.turns.log(self._turn, name, {"text": sanitize_text(delta)})

    async def tool_call(self, tool_use_id: str, tool: str, input: Mapping[str, Any] | str) -> None:
        await self.journal(calls=[ToolCallStart(tool_use_id, tool, input)])

    async def tool_result(
        self, tool_use_id: str, ok: bool, result: str, *, journal: Sequence[dict[str, Any]] = ()
    ) -> None:
        stored = NewToolResult(tool_use_id, ok, sanitize_text(result))
        await self._store.turns.record(self._turn, TurnUpdate(journal=journal, results=[stored]))

    async def usage(self, usage: TurnUsage) -> None:
        await self.journal(usage=usage)

    async def sdk_message(self, message: Mapping[str, Any]) -> None:
        if self._log.wants_sdk_messages(self._turn.loop_id):
            data = to_json(dict(message))
            encoded = f"event: sdk_message\ndata: {data}\n\n".encode()
            self._log.publish_sdk_message(self._turn.loop_id, self._turn.turn_id, encoded)

    # ------------------------------------------------------------------ journal, history, sandbox

    async def journal(
        self,
        *entries: dict[str, Any],
        usage: TurnUsage | None = None,
        calls: Sequence[ToolCallStart] = (),
    ) -> None:
        # An engine announces its calls with the response that made them, and again when it comes
        # to run them; the second time costs no transaction.
        new = [call for call in calls if call.tool_use_id not in self._announced]
        if entries or usage is not None or new:
            update = TurnUpdate(entries, usage, [_new_tool_call(call) for call in new])
            await self._store.turns.record(self._turn, update)
            self._announced.update(call.tool_use_id for call in new)

    def history(self) -> AsyncIterator[PastTurn]:
        return _PastTurnReader(self._store, self._turn)

    async def count_turns_before(self, turn_id: str) -> int:
        return await self._store.history.count_turns_before(self._turn.loop_id, turn_id)

    async def sandbox(self) -> Sandbox:
        sandbox = await self._acquire_sandbox()
        self._network = sandbox.network
        self._remembered = await self._remembered_destinations()
        self._network.set_grants(self._remembered | self._one_time_grants())
        return sandbox

    def revoke_network_grants(self) -> None:
        """The turn is suspended or has ended: grants for this turn alone are withdrawn."""
        if self._network is not None:
            self._network.set_grants(self._remembered)

    async def _remembered_destinations(self) -> set[Destination]:
        """Where a person lets this loop go, whatever its turn."""
        if self._mode == "plan":
            return set()
        rules = await self._loop_rules()
        return {parse_destination(r.prefix) for r in rules if r.tool == NETWORK and r.prefix}

    def _one_time_grants(self) -> set[Destination]:
        if self._mode == "plan":
            return set()
        return {
            Destination(choice.payload["input"]["host"], choice.payload["input"]["port"])
            for choice in self._choices.values()
            if choice.outcome == "allowed" and choice.payload.get("tool") == NETWORK
        }

    # ------------------------------------------------------------------ permissions and questions

    async def permission(
        self,
        tool_use_id: str,
        tool: str,
        input: Mapping[str, Any],
        *,
        kind: ToolKind,
        inside_workdir: bool = False,
        title: str,
        display_name: str,
        reason: str | None = None,
    ) -> PermissionDecision:
        asked = self._choices.get(tool_use_id)
        if asked is None:
            remembered = is_remembered(await self._rules_of_mode(), tool, input)
            decision = evaluate(
                self._mode, kind, inside_workdir=inside_workdir, remembered=remembered
            )
            if decision == "run":
                confined = kind == "edit" and self._mode in ("acceptEdits", "dontAsk")
                return PermissionDecision(
                    True, confined=confined and inside_workdir and not remembered
                )
            if decision == "deny":
                return PermissionDecision.deny(self._policy_denial(kind), "policy")
            payload: dict[str, Any] = {
                "tool": tool,
                "title": title,
                "display_name": display_name,
                "input": dict(input),
            }
            if isinstance(input.get("command"), str):
                payload["command"] = input["command"]
            if reason:
                payload["reason"] = reason
            asked = await self._ask(tool_use_id, "permission", payload)
        if asked.pending:
            raise TurnSuspended
        if asked.outcome == "allowed":
            return PermissionDecision(True)
        return PermissionDecision.deny(USER_DENIED, "user")

    def _policy_denial(self, kind: ToolKind) -> str:
        if kind == "network":
            return NETWORK_DENIED
        return PLAN_DENIED if self._mode == "plan" else DONT_ASK_DENIED

    async def question(self, tool_use_id: str, questions: Sequence[UserQuestion]) -> Answers:
        asked = self._choices.get(tool_use_id)
        if asked is None:
            payload = {"questions": [_question_data(question) for question in questions]}
            asked = await self._ask(tool_use_id, "question", payload)
        if asked.pending:
            raise TurnSuspended
        answers: Answers = (asked.answer or {}).get("answers", {})
        return answers

    async def _rules_of_mode(self) -> Sequence[RuleRecord]:
        """The loop's rules in a mode that looks at them, else none."""
        if self._mode in ("plan", "auto", "bypassPermissions"):
            return ()
        return await self._loop_rules()

    async def _loop_rules(self) -> Sequence[RuleRecord]:
        """The loop's rules: read once, and again after :meth:`rules_changed`."""
        while self._rules is None:
            version = self._rules_version
            rules = await self._store.loops.rules(self._turn.loop_id)
            if version == self._rules_version:  # else they changed during the read
                self._rules = rules
        return self._rules

    def rules_changed(self) -> None:
        """A rule of the loop was stored or deleted: the next call is decided by the new rules."""
        self._rules = None
        self._rules_version += 1

    async def _ask(
        self, tool_use_id: str, kind: ChoiceKind, payload: dict[str, Any]
    ) -> ChoiceRecord:
        """Make the choice; one at a time, a person reads one prompt after the other."""
        if self._durable and any(choice.pending for choice in self._choices.values()):
            raise TurnSuspended
        choice = ChoiceRecord(
            choice_id=new_choice_id(),
            loop_id=self._turn.loop_id,
            turn_id=self._turn.turn_id,
            tool_use_id=tool_use_id,
            kind=kind,
            payload=payload,
            pending=True,
        )
        if self._durable:
            self._choices[tool_use_id] = choice
            await self._store.choices.open(self._turn, choice, waiting=True)
            return choice
        async with self._asking:
            return await self._ask_and_wait(choice)

    async def _ask_and_wait(self, choice: ChoiceRecord) -> ChoiceRecord:
        """For an engine without durable choices: hold its task until the answer comes."""
        self._answered[choice.choice_id] = asyncio.get_running_loop().create_future()
        self._on_waiting(True)
        try:
            await self._store.choices.open(self._turn, choice, waiting=False)
            await self._answered[choice.choice_id]
        finally:
            del self._answered[choice.choice_id]
            self._on_waiting(False)
        resolved = await self._store.choices.get(choice.loop_id, choice.choice_id)
        assert resolved is not None
        self._choices[choice.tool_use_id] = resolved
        return resolved

    @property
    def is_waiting(self) -> bool:
        """An engine without durable choices holds its task for an answer."""
        return bool(self._answered)

    def choice_resolved(self, choice_id: str) -> None:
        """A choice of this turn was resolved, which may have stored a rule."""
        self.rules_changed()
        future = self._answered.get(choice_id)
        if future is not None and not future.done():
            future.set_result(None)


class _PastTurnReader(AsyncIterator[PastTurn]):
    """The turns before ``turn``, newest first, in pages that grow: an engine that needs the last
    turn alone reads few others, one that needs hundreds makes few queries."""

    def __init__(self, store: StorePort, turn: TurnRecord) -> None:
        self._store = store
        self._loop_id = turn.loop_id
        self._before = turn.turn_id
        self._page: deque[PastTurn] = deque()
        self._limit = FIRST_PAGE_TURNS

    async def __anext__(self) -> PastTurn:
        if not self._page:
            self._page.extend(
                await self._store.history.past_turns(
                    self._loop_id, before=self._before, limit=self._limit
                )
            )
            self._limit = min(self._limit * 2, PAGE_TURNS)
        if not self._page:
            raise StopAsyncIteration
        turn = self._page.popleft()
        self._before = turn.turn_id
        return turn


def _new_tool_call(call: ToolCallStart) -> NewToolCall:
    tool = sanitize_text(call.tool)
    event = {"tool_use_id": call.tool_use_id, "tool": tool}
    summary = input_summary(call.input)
    if summary is not None:
        event["input_summary"] = summary
    return NewToolCall(call.tool_use_id, tool, call.input, event)


def _question_data(question: UserQuestion) -> dict[str, Any]:
    data: dict[str, Any] = {"id": question.id, "question": question.question}
    if question.header:
        data["header"] = question.header
    data["options"] = [
        {"label": option.label, "description": option.description}
        if option.description
        else {"label": option.label}
        for option in question.options
    ]
    data["multi_select"] = question.multi_select
    return data
