"""From the tool calls of one response to their results.

Order of things, for the calls that have no result yet:

1. All are announced, in the model's order.
2. For each, in order, the host says whether it may run. A call that needs a person suspends the
   turn, but not before everything that needs nobody has run and is in the journal.
3. What may run runs at the same time; each result is journaled, then reported.

So a turn that is taken up again finds the results of all calls but those that were waited for,
and no tool runs twice. Should the server die while calls run *and* a person is being asked (only
then is a turn with running tools taken up again), the journal says which were ``started``; their
result is that nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from ...loops.errors import SandboxLost
from ...loops.ports.engine import PermissionDecision, TurnHost, TurnSuspended
from ...loops.ports.sandbox import FileError
from ..agents.network_approval import ask_denied_hosts
from ..models.messages import ModelStep, ReplyToolCall, ToolResultPart, result_entry, started_entry
from ..tools.inputs import AskUserQuestionInput, EditInput, WriteInput
from ..tools.outcome import ToolLimits, ToolOutcome
from ..tools.questions import answer_text, questions_of
from ..tools.tools import TOOLS, InvalidInput, Tool, ToolContext, inside_workdir
from .progress import CUT_CALL, is_cut_off

RESULT_UNKNOWN = (
    "The server stopped while this ran, and its result was lost. It may have taken effect in "
    "full, in part or not at all: check before you repeat it."
)

MAX_PARALLEL_CALLS = 16
"""Calls of one response that run at the same time."""

Job = Callable[[], Awaitable[ToolOutcome]]


async def run_tool_calls(exchange: ModelStep, host: TurnHost, limits: ToolLimits) -> None:
    """Give every call of ``exchange`` its result, in place.

    Raises:
        TurnSuspended: a person must be asked first. What could run has run.
    """
    calls = exchange.open_calls
    for call in calls:
        await host.tool_call(call.id, call.tool, call.input)
    jobs: list[tuple[ReplyToolCall, Job]] = []
    suspended: TurnSuspended | None = None
    for call in calls:
        try:
            if is_cut_off(exchange.response, call):
                jobs.append((call, _fixed(ToolOutcome(False, CUT_CALL))))
                continue
            jobs.append((call, await _decide(call, host, limits, ran=call.id in exchange.started)))
        except TurnSuspended as outcome:
            suspended = suspended or outcome
    if suspended is not None and jobs:
        await host.journal(started_entry(call.id for call, _ in jobs))
    await _run_concurrently(
        [partial(_record_result, exchange, call, job, host) for call, job in jobs]
    )
    if suspended is not None:
        raise suspended
    await ask_denied_hosts(exchange, host)


async def _decide(call: ReplyToolCall, host: TurnHost, limits: ToolLimits, *, ran: bool) -> Job:
    """What is to be done for the call: run the tool, or just say why not."""
    tool = TOOLS.get(call.tool)
    if ran:
        return _fixed(ToolOutcome(False, RESULT_UNKNOWN))
    if tool is None:
        known = ", ".join(TOOLS)
        return _fixed(
            ToolOutcome(False, f"There is no tool {call.tool[:100]!r}. The tools are: {known}")
        )
    try:
        asked = tool.parse(call.input)
    except InvalidInput as error:
        return _fixed(ToolOutcome(False, str(error)))
    if tool.run is None:
        return await _question(call, asked, host)
    try:
        verdict = await _permission(call, tool, asked, host)
    except SandboxLost as error:
        return _fixed(_lost(error))
    if not verdict.allowed:
        return _fixed(ToolOutcome(False, verdict.denial, denied_by=verdict.denied_by))
    scene = ToolContext(host.sandbox, limits, confined=verdict.confined)
    return lambda: _run(tool, asked, scene)


async def _question(call: ReplyToolCall, asked: AskUserQuestionInput, host: TurnHost) -> Job:
    questions = questions_of(asked)
    answers = await host.question(call.id, questions)
    return _fixed(ToolOutcome(True, answer_text(questions, answers)))


async def _permission(
    call: ReplyToolCall, tool: Tool[Any], asked: Any, host: TurnHost
) -> PermissionDecision:
    inside = False
    if isinstance(asked, (WriteInput, EditInput)):
        inside = await inside_workdir(await host.sandbox(), asked.file_path)
    return await host.permission(
        call.id,
        tool.name,
        asked.model_dump(exclude_unset=True),
        kind=tool.kind,
        inside_workdir=inside,
        title=tool.title(asked)[:200],
        display_name=tool.name,
    )


async def _run(tool: Tool[Any], asked: Any, scene: ToolContext) -> ToolOutcome:
    assert tool.run is not None
    try:
        return await tool.run(asked, scene)
    except FileError as error:
        return ToolOutcome(False, str(error))
    except SandboxLost as error:
        return _lost(error)


def _lost(error: SandboxLost) -> ToolOutcome:
    return ToolOutcome(
        False,
        f"The sandbox ended while this ran: {error.message} The files are kept, processes are "
        "not; the next call gets a new sandbox.",
    )


def _fixed(outcome: ToolOutcome) -> Job:
    async def said() -> ToolOutcome:
        return outcome

    return said


async def _record_result(
    exchange: ModelStep, call: ReplyToolCall, job: Job, host: TurnHost
) -> None:
    outcome = await job()
    result = ToolResultPart(
        call.id, call.tool, outcome.ok, outcome.text, outcome.refused, outcome.denied_by
    )
    entry = result_entry(result)
    await host.tool_result(call.id, outcome.ok, outcome.text, journal=[entry])
    exchange.results[call.id] = result
    await host.sdk_message(entry)


async def _run_concurrently(works: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do all, some at the same time. The first failure cancels the others, and is raised."""
    turnstile = asyncio.Semaphore(MAX_PARALLEL_CALLS)

    async def do(work: Callable[[], Awaitable[None]]) -> None:
        async with turnstile:
            await work()

    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(do(work))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
