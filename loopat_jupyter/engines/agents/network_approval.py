"""A person's approval of destinations that the sandbox's egress proxy would refuse.

Two ways, for two kinds of engines. An engine that runs a command itself cannot hold it until
somebody answers, days later perhaps: the command runs to its end, then the person is asked as
durably as about a tool, and the agent is told to run the command again
(:func:`ask_about_denied_hosts`). An agent that runs its tools itself cannot be told anything
afterwards: there the proxy holds the request while the person is asked (:class:`EgressApprover`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ...loops.destinations import Destination, parse_destination
from ...loops.ports.engine import PermissionDecision, PermissionMode, TurnHost
from ...loops.ports.network import NETWORK

ASKING_MODES: tuple[PermissionMode, ...] = ("default", "acceptEdits")
"""The permission modes in which a person may be asked; the others decide by themselves."""
MAX_QUESTIONS = 5
"""Destinations that a person is asked about for one command, or for one prompt of an agent."""

ALLOWED = "The user allowed {name}. The refusal above came before that: run the command again."
REFUSED = "{name} was refused: {why}"
NOT_ASKED = "It was refused {count} more destinations, about which nobody was asked."

NO_TOOL = "it is not on the allow-list of this loop, and no tool that was allowed is running."
TOO_MANY = f"nobody is asked about more than {MAX_QUESTIONS} destinations in one turn."
PROMPT_ENDED = "the turn ended before the user had answered."


async def ask_about_denied_hosts(
    call_id: str, tool: str, denied: Sequence[str], host: TurnHost
) -> str:
    """Ask about each destination that a finished call was refused; returns the note for the agent.

    Raises:
        TurnSuspended: a person must be asked first.
    """
    lines = []
    for name in denied[:MAX_QUESTIONS]:
        decision = await request_host_permission(call_id, tool, parse_destination(name), host)
        line = ALLOWED if decision.allowed else REFUSED
        lines.append(line.format(name=name, why=decision.denial))
    more = len(denied) - MAX_QUESTIONS
    if more > 0:
        lines.append(NOT_ASKED.format(count=more))
    return "\n".join(f"[network: {line}]" for line in lines)


async def request_host_permission(
    call_id: str, requester: str, destination: Destination, host: TurnHost
) -> PermissionDecision:
    """Put one destination before the permission policy. ``requester``: who tried to reach it.

    Raises:
        TurnSuspended: a person must be asked first.
    """
    return await host.permission(
        f"{call_id}/{destination}",
        NETWORK,
        {"host": destination.host, "port": destination.port},
        kind="network",
        title=f"Reach {destination}",
        display_name="Network",
        reason=f"{requester} tried to, and it is not on the loop's allow-list.",
    )


class EgressApprover:
    """The egress proxy's approval callback during one prompt of an agent.

    People are asked about what a tool wants that they have allowed, not about what the agent's own
    program looks for by itself (updates, catalogues): that is refused. The proxy waits for as long
    as programs do; the question stays open until it is answered or the prompt ends, so a later
    attempt of the agent finds the answer.
    """

    def __init__(
        self,
        agent: str,
        host: TurnHost,
        tool_is_running: Callable[[], bool],
        group: asyncio.TaskGroup,
    ) -> None:
        """``tool_is_running``: whether a tool that was allowed may be running now."""
        self._agent = agent
        self._host = host
        self._tool_is_running = tool_is_running
        self._group = group
        self._questions: dict[Destination, asyncio.Task[str | None]] = {}

    async def __call__(self, destination: Destination) -> str | None:
        """``None`` where the destination may be reached now, else why it may not."""
        task = self._questions.get(destination)
        if task is None:
            if not self._tool_is_running():
                return NO_TOOL
            if len(self._questions) >= MAX_QUESTIONS:
                return TOO_MANY
            task = self._group.create_task(self._ask_person(destination))
            self._questions[destination] = task
        await asyncio.wait([task])
        if task.cancelled() or task.exception() is not None:  # the task group raises the error
            return PROMPT_ENDED
        return task.result()

    async def _ask_person(self, destination: Destination) -> str | None:
        requester = f"The agent {self._agent}"
        decision = await request_host_permission("network", requester, destination, self._host)
        if not decision.allowed:
            return decision.denial
        # The host applies new grants to the sandbox's network when it hands the sandbox out.
        await self._host.sandbox()
        return None

    def cancel(self) -> None:
        """The prompt is over: open questions are withdrawn, and who waits for one is refused."""
        for task in self._questions.values():
            task.cancel()
