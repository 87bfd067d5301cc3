"""One prompt, from its sending to its answer: what is said meanwhile, and what is asked.

Updates are taken in order, one after the other. What a permission request is about is announced in
that order too; then it waits beside the updates, since other calls of the agent may go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ...loops.errors import TurnFailure
from .client import PromptResult
from .elicitation import Form
from .errors import KEPT, AgentGone, AgentRefused
from .network_approval import ASKING, EgressApprover
from .permission import PermissionRequest
from .process import AgentProcess, Item, PendingRequest, PromptEnded
from .turn_reporter import ModeViolation, TurnReporter


class AgentTimeout(TurnFailure):
    """The agent does not go on, and does not say why."""


Deciding = Callable[[], Awaitable[str | Mapping[str, Any] | None]]


async def run_prompt(
    agent: AgentProcess, report: TurnReporter, texts: Sequence[str]
) -> PromptResult:
    """Prompt the agent's open session with ``texts``.

    Raises:
        AgentGone, AgentRefused: there is no answer. What was said before has been reported.
        Unheld: the agent acted against the turn's mode; it was ended.
        Silent: the agent said nothing any more; it was ended.
    """
    agent.inbox.open()
    began = time.monotonic()
    answering = asyncio.create_task(_answer(agent, texts))
    try:
        ended = await _supervise(agent, report)
        if report.busy and isinstance(ended.outcome, AgentGone):
            await agent.end_orphans(time.monotonic() - began)
        await report.close()
    except BaseException as error:
        if isinstance(error, (AgentTimeout, ModeViolation)):
            await agent.close()
        age = time.monotonic() - began
        await agent.interrupt(answering, age if report.busy else None)
        raise
    finally:
        agent.stop_listening()
        agent.retired = report.unfinished
    await answering
    if isinstance(ended.outcome, PromptResult):
        return ended.outcome
    raise ended.outcome


async def _answer(agent: AgentProcess, texts: Sequence[str]) -> None:
    assert agent.session is not None
    outcome: PromptResult | AgentGone | AgentRefused
    try:
        outcome = await agent.link.prompt(agent.session.session_id, texts)
    except (AgentGone, AgentRefused) as error:
        outcome = error
    await agent.inbox.put(PromptEnded(outcome))


async def _supervise(agent: AgentProcess, report: TurnReporter) -> PromptEnded:
    """Report until the prompt has ended. The first failure is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            reaching = EgressApprover(agent.launch.agent, report, group)
            if report.mode in ASKING:
                agent.sandbox.network.set_approval_callback(reaching)
            try:
                return await _handle_updates(agent, report, group)
            finally:
                agent.sandbox.network.set_approval_callback(None)
                reaching.end()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _handle_updates(
    agent: AgentProcess, report: TurnReporter, group: asyncio.TaskGroup
) -> PromptEnded:
    """What it says and asks, in order; what must be decided is decided beside it."""
    asking: set[asyncio.Task[None]] = set()
    while True:
        item = await _next(agent, quiet=not (report.busy or asking))
        if isinstance(item, PromptEnded):
            for task in asking:
                task.cancel()
            return item
        if not isinstance(item, PendingRequest):
            await report.update(item)
            continue
        deciding = await _announced(report, item.ask)
        if deciding is None:
            item.decide(None)
            continue
        task = group.create_task(_decide(item, deciding))
        asking.add(task)
        task.add_done_callback(asking.discard)


async def _next(agent: AgentProcess, *, quiet: bool) -> Item:
    """What comes next. While it is ``quiet`` (no tool runs, nobody is asked) something must."""
    try:
        async with asyncio.timeout(agent.limits.silence if quiet else None):
            return await agent.inbox.get()
    except TimeoutError:
        raise AgentTimeout(
            f"The agent {agent.launch.agent!r} said nothing for {agent.limits.silence:g} s, so it "
            f"was ended. {KEPT}"
        ) from None


async def _announced(report: TurnReporter, ask: PermissionRequest | Form) -> Deciding | None:
    """How it is decided; what it is about is announced. ``None``: there is nothing to decide."""
    if isinstance(ask, Form):
        return partial(report.fill, await report.expect(ask), ask)
    call = await report.announce(ask)
    return None if call is None else partial(report.decide, call, ask)


async def _decide(asked: PendingRequest, deciding: Deciding) -> None:
    decision = None
    try:
        decision = await deciding()
    finally:
        asked.decide(decision)
