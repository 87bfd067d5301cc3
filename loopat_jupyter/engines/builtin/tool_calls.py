"""Runs the tool calls of one reply of a model.

The calls that have no result yet go through these steps:

1. All are announced, in the model's order.
2. For each, in order, the host decides whether it may run. A call that needs a person suspends the
   turn, but not before everything that needs nobody has run and is in the journal.
3. What may run runs concurrently; each result is journaled, then reported.

So a turn that is resumed finds the results of all calls but those that were waited for, and no tool
runs twice. Should the server die while calls run *and* a person is being asked (only then is a turn
with running tools resumed), the journal has which were ``started``; their result is that nobody
knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from ...loops.errors import SandboxLost
from ...loops.ports.engine import PermissionDecision, TurnHost, TurnSuspended
from ...loops.ports.sandbox import FileError
from ..agents.network_approval import ask_about_denied_hosts
from ..models.messages import (
    ModelStep,
    ReplyToolCall,
    ToolResultPart,
    network_entry,
    result_entry,
    started_entry,
)
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
"""Calls of one reply that run at the same time."""

Job = Callable[[], Awaitable[ToolOutcome]]


async def run_tool_calls(step: ModelStep, host: TurnHost, limits: ToolLimits) -> None:
    """Give every call of ``step`` its result, in place.

    Raises:
        TurnSuspended: a person must be asked first. What could run without that has run.
    """
    calls = step.open_calls
    for call in calls:
        await host.tool_call(call.id, call.tool, call.input)
    jobs: list[tuple[ReplyToolCall, Job]] = []
    suspended: TurnSuspended | None = None
    for call in calls:
        try:
            if is_cut_off(step.response, call):
                jobs.append((call, _fixed(ToolOutcome(False, CUT_CALL))))
                continue
            jobs.append(
                (call, await _decide(call, host, limits, was_started=call.id in step.started))
            )
        except TurnSuspended as outcome:
            suspended = suspended or outcome
    if suspended is not None and jobs:
        await host.journal(started_entry(call.id for call, _ in jobs))
    await _run_concurrently([partial(_record_result, step, call, job, host) for call, job in jobs])
    if suspended is not None:
        raise suspended
    await _ask_about_network(step, host)


async def _ask_about_network(step: ModelStep, host: TurnHost) -> None:
    """Ask about the destinations that the calls of ``step`` were refused, in their order.

    Raises:
        TurnSuspended: a person must be asked first.
    """
    for call in step.response.calls:
        result = step.results[call.id]
        if result.refused:
            note = await ask_about_denied_hosts(result.id, result.tool, result.refused, host)
            await host.journal(network_entry(call.id, note))
            step.add_network_note(call.id, note)


async def _decide(
    call: ReplyToolCall, host: TurnHost, limits: ToolLimits, *, was_started: bool
) -> Job:
    """The call's job: to run the tool, or only to return why it does not run."""
    tool = TOOLS.get(call.tool)
    if was_started:
        return _fixed(ToolOutcome(False, RESULT_UNKNOWN))
    if tool is None:
        known = ", ".join(TOOLS)
        return _fixed(
            ToolOutcome(False, f"There is no tool {call.tool[:100]!r}. The tools are: {known}")
        )
    try:
        tool_input = tool.parse(call.input)
    except InvalidInput as error:
        return _fixed(ToolOutcome(False, str(error)))
    if tool.run is None:
        return await _ask_questions(call, tool_input, host)
    try:
        decision = await _permission(call, tool, tool_input, host)
    except SandboxLost as error:
        return _fixed(_sandbox_lost(error))
    if not decision.allowed:
        return _fixed(ToolOutcome(False, decision.denial, denied_by=decision.denied_by))
    context = ToolContext(host.sandbox, limits, confined=decision.confined)
    return lambda: _run_tool(tool, tool_input, context)


async def _ask_questions(
    call: ReplyToolCall, tool_input: AskUserQuestionInput, host: TurnHost
) -> Job:
    questions = questions_of(tool_input)
    answers = await host.question(call.id, questions)
    return _fixed(ToolOutcome(True, answer_text(questions, answers)))


async def _permission(
    call: ReplyToolCall, tool: Tool[Any], tool_input: Any, host: TurnHost
) -> PermissionDecision:
    inside = False
    if isinstance(tool_input, (WriteInput, EditInput)):
        inside = await inside_workdir(await host.sandbox(), tool_input.file_path)
    return await host.permission(
        call.id,
        tool.name,
        tool_input.model_dump(exclude_unset=True),
        kind=tool.kind,
        inside_workdir=inside,
        title=tool.title(tool_input)[:200],
        display_name=tool.name,
    )


async def _run_tool(tool: Tool[Any], tool_input: Any, context: ToolContext) -> ToolOutcome:
    assert tool.run is not None
    try:
        return await tool.run(tool_input, context)
    except FileError as error:
        return ToolOutcome(False, str(error))
    except SandboxLost as error:
        return _sandbox_lost(error)


def _sandbox_lost(error: SandboxLost) -> ToolOutcome:
    return ToolOutcome(
        False,
        f"The sandbox ended while this ran: {error.message} The files are kept, processes are "
        "not; the next call gets a new sandbox.",
    )


def _fixed(outcome: ToolOutcome) -> Job:
    async def fixed() -> ToolOutcome:
        return outcome

    return fixed


async def _record_result(step: ModelStep, call: ReplyToolCall, job: Job, host: TurnHost) -> None:
    outcome = await job()
    result = ToolResultPart(
        call.id, call.tool, outcome.ok, outcome.text, outcome.refused, outcome.denied_by
    )
    entry = result_entry(result)
    await host.tool_result(call.id, outcome.ok, outcome.text, journal=[entry])
    step.results[call.id] = result
    await host.sdk_message(entry)


async def _run_concurrently(jobs: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Run all jobs, at most :data:`MAX_PARALLEL_CALLS` at a time. The first failure cancels the
    others and is raised."""
    semaphore = asyncio.Semaphore(MAX_PARALLEL_CALLS)

    async def limited(job: Callable[[], Awaitable[None]]) -> None:
        async with semaphore:
            await job()

    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(limited(job))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
