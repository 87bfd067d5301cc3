"""One prompt of an agent, from its sending to its result.

Session updates are handled in order, one after the other. The call that a permission request is
about is announced in that order too; the decision is then waited for beside the updates, since
other calls of the agent may go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ...loops.errors import TurnFailure
from ..agents.errors import WORK_KEPT
from ..agents.network_approval import ASKING_MODES, EgressApprover
from .client import PromptResult
from .elicitation import Form
from .errors import AgentExited, AgentRefused
from .permission import PermissionRequest
from .process import AgentProcess, Item, PendingRequest, PromptEnded
from .turn_reporter import ModeViolation, TurnReporter


class AgentTimeout(TurnFailure):
    """The agent sent nothing for too long."""


Decider = Callable[[], Awaitable[str | Mapping[str, Any] | None]]
"""Returns the response of a request of the agent."""


async def run_prompt(
    agent: AgentProcess, reporter: TurnReporter, texts: Sequence[str]
) -> PromptResult:
    """Prompt the agent's open session with ``texts``, and report what it does.

    Raises:
        AgentExited, AgentRefused: there is no result. What came before it has been reported.
        ModeViolation: the agent acted against the turn's permission mode; it was ended.
        AgentTimeout: the agent sent nothing any more; it was ended.
    """
    agent.updates.open()
    began = time.monotonic()
    prompting = asyncio.create_task(_send_prompt(agent, texts))
    try:
        ended = await _supervise(agent, reporter)
        if reporter.busy and isinstance(ended.outcome, AgentExited):
            await agent.kill_orphans(time.monotonic() - began)
        await reporter.close()
    except BaseException as error:
        if isinstance(error, (AgentTimeout, ModeViolation)):
            await agent.close()
        await agent.interrupt(prompting, began if reporter.busy else None)
        raise
    finally:
        agent.close_updates()
        agent.abandoned_calls = reporter.unfinished
    await prompting
    if isinstance(ended.outcome, PromptResult):
        return ended.outcome
    raise ended.outcome


async def _send_prompt(agent: AgentProcess, texts: Sequence[str]) -> None:
    """Send the prompt, and queue its end behind all that the agent sent before it."""
    assert agent.session is not None
    outcome: PromptResult | AgentExited | AgentRefused
    try:
        outcome = await agent.client.prompt(agent.session.session_id, texts)
    except (AgentExited, AgentRefused) as error:
        outcome = error
    await agent.updates.put(PromptEnded(outcome))


async def _supervise(agent: AgentProcess, reporter: TurnReporter) -> PromptEnded:
    """Handle updates until the prompt has ended. The first failure of a task is raised bare."""
    try:
        async with asyncio.TaskGroup() as group:
            approver = EgressApprover(
                agent.launch.agent, reporter.host, lambda: reporter.tool_is_running, group
            )
            if reporter.mode in ASKING_MODES:
                agent.sandbox.network.set_approval_callback(approver)
            try:
                return await _handle_updates(agent, reporter, group)
            finally:
                agent.sandbox.network.set_approval_callback(None)
                approver.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _handle_updates(
    agent: AgentProcess, reporter: TurnReporter, group: asyncio.TaskGroup
) -> PromptEnded:
    """Report updates in order; requests of the agent are decided in tasks beside them."""
    deciding: set[asyncio.Task[None]] = set()
    while True:
        item = await _next_item(agent, quiet=not (reporter.busy or deciding))
        if isinstance(item, PromptEnded):
            for task in deciding:
                task.cancel()
            return item
        if not isinstance(item, PendingRequest):
            await reporter.report_update(item)
            continue
        decider = await _announce_request(reporter, item.request)
        if decider is None:
            item.resolve(None)
            continue
        task = group.create_task(_resolve_request(item, decider))
        deciding.add(task)
        task.add_done_callback(deciding.discard)


async def _next_item(agent: AgentProcess, *, quiet: bool) -> Item:
    """The next item; while ``quiet`` (no tool runs, nobody is asked) it must come in time."""
    try:
        async with asyncio.timeout(agent.limits.silence if quiet else None):
            return await agent.updates.get()
    except TimeoutError:
        raise AgentTimeout(
            f"The agent {agent.launch.agent!r} said nothing for {agent.limits.silence:g} s, so it "
            f"was ended. {WORK_KEPT}"
        ) from None


async def _announce_request(
    reporter: TurnReporter, request: PermissionRequest | Form
) -> Decider | None:
    """Announce what a request is about. ``None``: there is nothing to decide."""
    if isinstance(request, Form):
        return partial(reporter.fill_form, await reporter.announce_form(request), request)
    call = await reporter.announce_permission(request)
    return None if call is None else partial(reporter.decide_permission, call, request)


async def _resolve_request(pending: PendingRequest, decider: Decider) -> None:
    response = None
    try:
        response = await decider()
    finally:
        pending.resolve(response)
