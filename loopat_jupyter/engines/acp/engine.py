"""The engine ``acp``: one agent process for each loop, alive between turns.

A turn's choices are not durable: the agent's own process waits for the response. A turn's journal
has the session that it was prompted in (:mod:`.journal`). The conversation itself is in the agent's
session, in the loop's home; where the agent cannot load that, it is sent as text.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ...context.acp_agents import SelectedAgent
from ...context.config_file import ConfigFile, SelectedModel
from ...loops.errors import TurnFailure
from ...loops.ports.engine import PastTurn, PermissionMode, Turn, TurnHost
from ...loops.ports.sandbox import Sandbox
from ..agents.catch_up import missed_turns_prompt
from ..builtin.history import recent_turns
from ..gateway.upstream import ModelUpstreamFactory
from ..plugin import ComposeInstructions
from . import journal
from .client import PromptResult, load_sdk
from .errors import AgentExited, AgentRefused
from .launch import AgentLaunch, build_launch
from .permission import UNRESTRICTED_MODES, check_mode_supported
from .process import AgentLimits, AgentProcess
from .prompt import run_prompt
from .turn_reporter import TurnReporter

log = logging.getLogger(__name__)


class AcpEngine:
    """Implements :class:`~loopat_jupyter.loops.ports.engine.Engine`."""

    name = "acp"
    durable_choices = False

    def __init__(
        self, home: Path, instructions: ComposeInstructions, limits: AgentLimits | None = None
    ) -> None:
        self._config = ConfigFile(home)
        self._instructions = instructions
        self._limits = limits or AgentLimits()
        self._upstreams = ModelUpstreamFactory()
        self._agents: dict[str, AgentProcess] = {}

    async def prepare(self) -> None:
        """Import the SDK ahead. Where it is not installed, the first turn reports that."""
        try:
            await load_sdk()
        except TurnFailure:
            return

    async def run(self, turn: Turn, host: TurnHost) -> None:
        selected = await self._config.select_agent()
        check_mode_supported(selected, turn.permission_mode)
        model = await self._config.select_model(turn.vault) if selected.uses_model else None
        sandbox = await host.sandbox()
        async with self._open_gateway(selected, model, sandbox) as launch:
            agent = await self._running_agent(turn.loop_id, launch, sandbox)
            try:
                result = await self._prompt(agent, selected, turn, host)
            except (AgentExited, AgentRefused, TimeoutError) as error:
                failure = await agent.failure(error, "open a session")
                if not isinstance(error, AgentRefused):
                    await agent.close()
                assert failure is not None
                raise failure from error
        if result.usage is not None:
            await host.usage(result.usage)
        _check_stop_reason(selected.name, result)

    async def close_loop(self, loop_id: str) -> None:
        agent = self._agents.pop(loop_id, None)
        if agent is not None:
            await agent.close()

    async def wait_idle(self, loop_id: str) -> None:
        """Return when the loop's agent has ended a prompt that was interrupted."""
        agent = self._agents.get(loop_id)
        if agent is not None:
            await agent.wait_idle()

    async def close(self) -> None:
        await asyncio.gather(*(self.close_loop(loop_id) for loop_id in list(self._agents)))
        await self._upstreams.close()

    # ------------------------------------------------------------------ the agent

    async def _running_agent(
        self, loop_id: str, launch: AgentLaunch, sandbox: Sandbox
    ) -> AgentProcess:
        """The loop's agent. It is restarted where it died, or its launch or sandbox changed."""
        await self.wait_idle(loop_id)
        agent = self._agents.get(loop_id)
        if agent is not None:
            if agent.alive and agent.launch == launch and agent.sandbox is sandbox:
                return agent
            await self.close_loop(loop_id)
        sdk = await load_sdk()
        agent = self._agents[loop_id] = await AgentProcess.start(launch, sandbox, sdk, self._limits)
        return agent

    @asynccontextmanager
    async def _open_gateway(
        self, selected: SelectedAgent, model: SelectedModel | None, sandbox: Sandbox
    ) -> AsyncIterator[AgentLaunch]:
        """The model gateway is open only while the turn runs, so that nothing in the sandbox can
        use the model between turns."""
        if model is None:
            yield build_launch(selected, None, None)
            return
        network = sandbox.network
        access = await network.open_model_gateway(await self._upstreams.upstream(model))
        try:
            yield build_launch(selected, access, model)
        finally:
            network.close_model_gateway()

    # ------------------------------------------------------------------ the prompt

    async def _prompt(
        self, agent: AgentProcess, selected: SelectedAgent, turn: Turn, host: TurnHost
    ) -> PromptResult:
        name = agent.launch.agent
        past = await recent_turns(host, lambda turn: journal.last_entry([turn], name) is not None)
        async with asyncio.timeout(self._limits.start):
            await _open_session(agent, past)
            await _set_session_mode(agent, selected, turn.permission_mode)
        texts = await self._prompt_texts(agent, turn, past, host)
        reporter = TurnReporter(
            selected.name, turn.permission_mode, host, agent.sandbox, agent.abandoned_calls
        )
        result = await run_prompt(agent, reporter, texts)
        if result.stop_reason == "cancelled" and reporter.cancelled_request:
            return PromptResult("end_turn", result.usage)
        return result

    async def _prompt_texts(
        self, agent: AgentProcess, turn: Turn, past: Sequence[PastTurn], host: TurnHost
    ) -> list[str]:
        """The user's message, after what the session does not hold yet: the instructions, and
        turns that it missed. Journals that the session gets them."""
        assert agent.session is not None
        name = agent.launch.agent
        instructions = await self._instructions(turn)
        digest = journal.digest(instructions)
        last = journal.last_entry(past, name)
        texts: list[str] = []
        if last is None or (last.get("session_key"), last.get("instructions")) != (
            agent.session_key,
            digest,
        ):
            texts.append(f"[loopat: what holds in this loop, from here on]\n{instructions}")
        missed = journal.missed_turns(past, agent.session_key)
        if missed:
            texts.append(missed_turns_prompt(missed, whole=len(missed) == len(past)))
        session_id = agent.session.session_id
        await host.journal(journal.prompt_entry(name, session_id, agent.session_key, digest))
        return [*texts, turn.content]


async def _open_session(agent: AgentProcess, past: Sequence[PastTurn]) -> None:
    """Keep the open session; else load the loop's last one, else create one."""
    if agent.session is not None:
        return
    last = journal.last_entry(past, agent.launch.agent)
    if last is not None and agent.can_load:
        try:
            agent.session = await agent.client.load_session(
                agent.sandbox.workdir, str(last.get("session"))
            )
            agent.session_key = str(last.get("session_key"))
        except AgentRefused as error:
            log.info("loopat: an earlier session could not be loaded: %s", error.message)
    if agent.session is None:
        agent.session = await agent.client.new_session(agent.sandbox.workdir)
        agent.session_key = secrets.token_hex(8)


async def _set_session_mode(
    agent: AgentProcess, selected: SelectedAgent, mode: PermissionMode
) -> None:
    """Set the session's own mode where ``asks`` in ``config.json`` names one: that mode where the
    permission mode needs the agent to ask, else the mode that the session was opened with.

    Raises:
        TurnFailure: the agent does not have the mode that ``asks`` names.
    """
    session = agent.session
    assert session is not None
    if not isinstance(selected.asks, str) or not selected.asks:
        return
    if selected.asks not in session.modes:
        known = ", ".join(session.modes) or "none"
        raise TurnFailure(
            f"config.json says that the agent {selected.name!r} asks in its mode "
            f"{selected.asks!r}, which it does not have. Its modes: {known}."
        )
    wanted = session.mode if mode in UNRESTRICTED_MODES else selected.asks
    if wanted is not None:  # before each prompt: an agent may change its mode by itself
        await agent.client.set_mode(session.session_id, wanted)


def _check_stop_reason(agent: str, result: PromptResult) -> None:
    """Raises ``TurnFailure`` where the agent did not end the prompt by itself."""
    if result.stop_reason == "max_tokens":
        raise TurnFailure(
            f"The answer of the agent {agent!r} was cut off at its model's output limit. "
            "Ask it to go on."
        )
    if result.stop_reason == "max_turn_requests":
        raise TurnFailure(
            f"The agent {agent!r} has asked its model as often as it may in one turn. "
            "Send another message to let it go on.",
            code="budget_exceeded",
        )
    if result.stop_reason == "refusal":
        raise TurnFailure(
            f"The agent {agent!r} refused to go on with this message. Put it differently, or "
            "begin a new loop."
        )
    if result.stop_reason != "end_turn":
        raise TurnFailure(
            f"The agent {agent!r} ended the turn as {result.stop_reason}, though nobody had "
            "interrupted it. Send the message again."
        )
