"""The engine ``acp``: one agent process for each loop, alive between turns.

A turn's choices are not durable: the agent's own process waits for the answer. What is kept of a
turn is in its journal (which session it belongs to); the conversation itself is in the agent's
session, in the loop's home, and is told in words where the agent cannot load that.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ...context.config_file import ConfigFile, SelectedAgent, SelectedModel
from ...loops.errors import TurnFailure
from ...loops.ports.engine import PastTurn, Turn, TurnHost
from ...loops.ports.sandbox import Sandbox
from ..agents import catch_up
from ..builtin.history import recent_turns
from ..gateway.upstream import ModelUpstreamFactory
from .client import PromptResult, load_sdk
from .errors import AgentGone, AgentRefused
from .launch import AgentLaunch, build_launch
from .modes import check_mode_supported, put_into_mode
from .process import AgentLimits, AgentProcess
from .prompt import run_prompt
from .turn_reporter import TurnReporter

log = logging.getLogger(__name__)

Instructions = Callable[[Turn], Awaitable[str]]
"""What an agent is told before the conversation: its loop, profiles and knowledge."""


class AcpEngine:
    """Implements :class:`~loopat_jupyter.loops.ports.engine.Engine`."""

    name = "acp"
    durable_choices = False

    def __init__(
        self, home: Path, instructions: Instructions, limits: AgentLimits | None = None
    ) -> None:
        self._config = ConfigFile(home)
        self._instructions = instructions
        self._limits = limits or AgentLimits()
        self._lender = ModelUpstreamFactory()
        self._agents: dict[str, AgentProcess] = {}

    async def prepare(self) -> None:
        """Load the SDK ahead. An installation without it is left for the turn to report."""
        try:
            await load_sdk()
        except TurnFailure:
            return

    async def run(self, turn: Turn, host: TurnHost) -> None:
        choice = await self._config.select_agent()
        check_mode_supported(choice, turn.permission_mode)
        model = await self._config.select_model(turn.vault) if choice.uses_model else None
        sandbox = await host.sandbox()
        async with self._launching(choice, model, sandbox) as launch:
            agent = await self._agent(turn.loop_id, launch, sandbox)
            try:
                answered = await self._prompt(agent, choice, turn, host)
            except (AgentGone, AgentRefused, TimeoutError) as error:
                failure = await agent.failure(error, "open a session")
                if not isinstance(error, AgentRefused):
                    await agent.close()
                assert failure is not None
                raise failure from error
        if answered.usage is not None:
            await host.usage(answered.usage)
        _check_end(choice.name, answered)

    async def close_loop(self, loop_id: str) -> None:
        agent = self._agents.pop(loop_id, None)
        if agent is not None:
            await agent.close()

    async def settled(self, loop_id: str) -> None:
        """The loop's agent rests, also after an interrupt that it was slow to follow."""
        agent = self._agents.get(loop_id)
        if agent is not None:
            await agent.settled()

    async def close(self) -> None:
        await asyncio.gather(*(self.close_loop(loop_id) for loop_id in list(self._agents)))
        await self._lender.close()

    # ------------------------------------------------------------------ the agent

    async def _agent(self, loop_id: str, launch: AgentLaunch, sandbox: Sandbox) -> AgentProcess:
        """The loop's living agent; a new one where it died, or would be started otherwise."""
        await self.settled(loop_id)
        agent = self._agents.get(loop_id)
        if agent is not None:
            if agent.alive and agent.launch == launch and agent.sandbox is sandbox:
                return agent
            await self.close_loop(loop_id)
        sdk = await load_sdk()
        agent = self._agents[loop_id] = await AgentProcess.start(launch, sandbox, sdk, self._limits)
        return agent

    @asynccontextmanager
    async def _launching(
        self, choice: SelectedAgent, model: SelectedModel | None, sandbox: Sandbox
    ) -> AsyncIterator[AgentLaunch]:
        """The loop's model is lent while the turn runs, so that nothing inside can use it between
        turns."""
        if model is None:
            yield build_launch(choice, None, None)
            return
        network = sandbox.network
        loan = await network.open_model_gateway(await self._lender.upstream(model))
        try:
            yield build_launch(choice, loan, model)
        finally:
            network.close_model_gateway()

    async def _prompt(
        self, agent: AgentProcess, choice: SelectedAgent, turn: Turn, host: TurnHost
    ) -> PromptResult:
        name = agent.launch.agent
        turns = await recent_turns(host, lambda turn: catch_up.last_entry([turn], name) is not None)
        async with asyncio.timeout(self._limits.start):
            await _open(agent, turns)
            await put_into_mode(agent, choice, turn.permission_mode)
        texts = await self._texts(agent, turn, turns, host)
        report = TurnReporter(choice.name, turn.permission_mode, host, agent.sandbox, agent.retired)
        answered = await run_prompt(agent, report, texts)
        if answered.reason == "cancelled" and report.gave_up:
            return PromptResult("end_turn", answered.usage)
        return answered

    async def _texts(
        self, agent: AgentProcess, turn: Turn, turns: Sequence[PastTurn], host: TurnHost
    ) -> list[str]:
        """The message, after what the session has not heard yet; journals that it hears it."""
        assert agent.session is not None
        name = agent.launch.agent
        instructions = await self._instructions(turn)
        fingerprint = catch_up.fingerprint(instructions)
        last = catch_up.last_entry(turns, name)
        texts: list[str] = []
        if last is None or last.get("birth") != agent.birth or last.get("told") != fingerprint:
            texts.append(f"[loopat: what holds in this loop, from here on]\n{instructions}")
        unheard = catch_up.unheard(turns, agent.birth)
        if unheard:
            texts.append(
                catch_up.missed_turns_prompt(unheard, all_of_it=len(unheard) == len(turns))
            )
        session_id = agent.session.session_id
        await host.journal(catch_up.journal_entry(name, session_id, agent.birth, fingerprint))
        return [*texts, turn.content]


async def _open(agent: AgentProcess, turns: Sequence[PastTurn]) -> None:
    """A session: the one that is open, the loop's last one, else a new one."""
    if agent.session is not None:
        return
    last = catch_up.last_entry(turns, agent.launch.agent)
    if last is not None and agent.can_load:
        try:
            agent.session = await agent.link.load_session(
                agent.sandbox.workdir, str(last.get("session"))
            )
            agent.birth = str(last.get("birth"))
        except AgentRefused as error:
            log.info("loopat: an earlier session could not be loaded: %s", error.message)
    if agent.session is None:
        agent.session = await agent.link.new_session(agent.sandbox.workdir)
        agent.birth = secrets.token_hex(8)


def _check_end(agent: str, answered: PromptResult) -> None:
    """Raises ``TurnFailure`` where the agent did not come to its own end."""
    if answered.reason == "max_tokens":
        raise TurnFailure(
            f"The answer of the agent {agent!r} was cut off at its model's output limit. "
            "Ask it to go on."
        )
    if answered.reason == "max_turn_requests":
        raise TurnFailure(
            f"The agent {agent!r} has asked its model as often as it may in one turn. "
            "Send another message to let it go on.",
            code="budget_exceeded",
        )
    if answered.reason == "refusal":
        raise TurnFailure(
            f"The agent {agent!r} refused to go on with this message. Put it differently, or "
            "begin a new loop."
        )
    if answered.reason != "end_turn":
        raise TurnFailure(
            f"The agent {agent!r} ended the turn as {answered.reason}, though nobody had "
            "interrupted it. Send the message again."
        )
