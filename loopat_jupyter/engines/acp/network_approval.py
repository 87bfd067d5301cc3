"""When what an agent runs is refused a destination: ask the person while the request waits.

The agent runs its tools itself, so nobody can tell it afterwards that it may try again; the request
is what can be held. The broker does that, for as long as programs have patience; the question stays
open until it is answered or the prompt ends, so a later try of the agent finds the answer.

People are asked about what a tool wants that they have allowed, not about what the agent's own
program looks for by itself (updates, catalogues): that is refused.
"""

from __future__ import annotations

import asyncio

from ...loops.destinations import Destination
from ...loops.ports.engine import PermissionMode
from ..agents.network_approval import ASKED, request_host_permission
from .turn_reporter import TurnReporter

ASKING: tuple[PermissionMode, ...] = ("default", "acceptEdits")
"""The modes in which a person may be asked; in the others a request is refused at once."""
NO_TOOL = "it is not on the allow-list of this loop, and no tool that was allowed is running."
TOO_MANY = "nobody is asked about more than {count} destinations in one turn."
OVER = "the turn ended before the user had answered."


class EgressApprover:
    """Implements :data:`~loopat_jupyter.loops.ports.network.ApprovalCallback` for one prompt; what
    it starts belongs to ``group``."""

    def __init__(self, agent: str, report: TurnReporter, group: asyncio.TaskGroup) -> None:
        self._agent = agent
        self._report = report
        self._host = report.host
        self._group = group
        self._asked: dict[Destination, asyncio.Task[str | None]] = {}

    async def __call__(self, destination: Destination) -> str | None:
        task = self._asked.get(destination)
        if task is None:
            if not self._report.acting:
                return NO_TOOL
            if len(self._asked) >= ASKED:
                return TOO_MANY.format(count=ASKED)
            task = self._group.create_task(self._ask(destination))
            self._asked[destination] = task
        await asyncio.wait([task])
        if task.cancelled() or task.exception() is not None:  # the group knows what went wrong
            return OVER
        return task.result()

    async def _ask(self, destination: Destination) -> str | None:
        who = f"The agent {self._agent}"
        verdict = await request_host_permission("network", who, destination, self._host)
        if not verdict.allowed:
            return verdict.denial
        await self._host.sandbox()  # from here on it is permitted
        return None

    def end(self) -> None:
        """Nobody is asked any more. Whoever waits is told that it is over."""
        for task in self._asked.values():
            task.cancel()
