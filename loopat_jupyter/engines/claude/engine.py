"""The engine ``claude``: which CLI serves a loop's turn, and how long it lives.

Each loop has one CLI. It is started by the first turn, kept between turns and while a turn waits
for a person, and ended with the loop's sandbox. What it is started with (model, instructions, key)
is fixed for its life, so where that changes it is started anew and resumes its session. It asks
its model through the sandbox's broker, which holds the real key, and only while a turn runs.

The session id is in the turns' journals; so the conversation goes on after an eviction or a
restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...context.config_file import ConfigFile, SelectedModel
from ...loops.errors import TurnFailure
from ...loops.ports.engine import PastTurn, Turn, TurnHost, TurnSuspended
from ...loops.ports.network import GatewayAccess
from ...loops.ports.sandbox import Sandbox
from ..builtin.engine import ComposeInstructions, EngineLimits
from ..builtin.history import recent_turns
from ..gateway.upstream import ModelUpstreamFactory
from . import SDK
from .catch_up import LOST, SESSION, last_session, missed_turns_prompt, names_session
from .cli_process import CliLimits, CliProcess
from .error_capture import ErrorCapturingUpstream
from .errors import LOST_SESSION, NO_CONVERSATION
from .launch import CliLaunch, cli_in, plan_launch, told_in
from .recovery import Recovery, release
from .session import CliSession
from .turn_runner import TurnRunner, TurnState

LATE_INTERRUPT = 2.0
"""Seconds for the CLI of a turn that was interrupted while it waited, when the next one begins."""
WRONG_API = (
    "The engine 'claude' speaks the Anthropic API, and the provider {provider!r} does not. Set its "
    '"api" to "anthropic" in config.json if it does, or LoopatExtension.engine to "builtin".'
)


@dataclass(frozen=True, slots=True)
class _LoopState:
    """Where a turn runs: its sandbox, and how a CLI is started there."""

    turn: Turn
    host: TurnHost
    sandbox: Sandbox
    launch: CliLaunch
    choice: SelectedModel
    loan: GatewayAccess
    upstream: ErrorCapturingUpstream
    past: Sequence[PastTurn]

    def state(self) -> TurnState:
        name = f"{self.choice.provider}/{self.choice.model}"
        return TurnState(self.turn, name, (self.choice.api_key, self.loan.key), self.upstream)


class ClaudeEngine:
    """Implements :class:`~loopat_jupyter.loops.ports.engine.Engine`."""

    name = "claude"
    durable_choices = True

    def __init__(
        self,
        home: Path,
        instructions: ComposeInstructions,
        limits: EngineLimits | None = None,
        *,
        agent_limits: CliLimits | None = None,
        program: Sequence[str] = (),
    ) -> None:
        """``program``: what to run inside in place of the SDK's own CLI."""
        self._config = ConfigFile(home)
        self._lender = ModelUpstreamFactory()
        self._instructions = instructions
        self._limits = limits or EngineLimits()
        self._agent_limits = agent_limits or CliLimits()
        self._program = tuple(program)
        self._agents: dict[str, CliProcess] = {}
        self._endings: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ the port

    async def prepare(self) -> None:
        """Import the SDK. Where that fails the turn that needs it says so."""
        with contextlib.suppress(TurnFailure):
            await self._load()

    async def run(self, turn: Turn, host: TurnHost) -> None:
        choice = await self._config.select_model(turn.vault)
        if choice.api == "openai":
            raise TurnFailure(WRONG_API.format(provider=choice.provider))
        upstream = ErrorCapturingUpstream(await self._lender.upstream(choice))
        sandbox = await host.sandbox()
        loan = await sandbox.network.open_model_gateway(upstream)
        try:
            place = _LoopState(
                turn,
                host,
                sandbox,
                await self._plan(turn, choice, loan, sandbox),
                choice,
                loan,
                upstream,
                await recent_turns(host, names_session),
            )
            await self._run(place)
        finally:
            sandbox.network.close_model_gateway()

    async def close_loop(self, loop_id: str) -> None:
        agent = self._agents.pop(loop_id, None)
        if agent is not None:
            await agent.kill()

    async def close(self) -> None:
        for loop_id in tuple(self._agents):
            await self.close_loop(loop_id)
        if self._endings:
            await asyncio.wait(tuple(self._endings))
        await self._lender.close()

    # ------------------------------------------------------------------ one turn

    async def _plan(
        self, turn: Turn, choice: SelectedModel, loan: GatewayAccess, sandbox: Sandbox
    ) -> CliLaunch:
        return plan_launch(
            self._program or (await cli_in(sandbox),),
            choice,
            await told_in(sandbox, await self._instructions(turn)),
            loan,
            sandbox.home,
            self._limits.tools,
            self._limits.model_calls,
        )

    async def _run(self, place: _LoopState) -> None:
        """Run, and leave no CLI behind that cannot be talked to."""
        loop_id = place.turn.loop_id
        try:
            await self._begin_or_go_on(place)
        except TurnSuspended:
            raise
        except asyncio.CancelledError:
            await self._stop(loop_id)
            raise
        except BaseException:
            agent = self._agents.get(loop_id)
            if agent is not None and (agent.busy or not agent.alive):
                await asyncio.shield(agent.end_tools())
                self._retire(loop_id)
            raise

    async def _begin_or_go_on(self, place: _LoopState) -> None:
        turn, agent = place.turn, self._agents.get(place.turn.loop_id)
        if not turn.journal:
            await self._begin(place)
            return
        here = agent is not None and agent.alive and agent.sandbox is place.sandbox
        if here and agent is not None and _waits_for(agent, turn):
            await self._go_on(place, agent)
        else:
            await self._recover(place, place.state())

    async def _go_on(self, place: _LoopState, agent: CliProcess) -> None:
        """The CLI still waits for its answers."""
        course: TurnState = agent.course
        course.turn, course.upstream = place.turn, place.upstream
        stretch = TurnRunner(course, agent, place.host)
        await stretch.ask_again()
        await stretch.run()
        if agent.held_after:
            await release(agent)
            await self._recover(place, course)
        else:
            agent.course = None

    async def _recover(self, place: _LoopState, course: TurnState) -> None:
        session_id = _session_of(place.turn)
        self._retire(place.turn.loop_id)

        async def start() -> CliProcess:
            return await self._start(place, session_id, course, resume=True)

        session = CliSession(place.sandbox, session_id)
        await Recovery(course, place.host, session, start).run()
        self._agents[place.turn.loop_id].course = None

    async def _begin(self, place: _LoopState) -> None:
        course, host = place.state(), place.host
        session_id = last_session(place.past)
        told_before = session_id is not None
        told = missed_turns_prompt(place.past, session_id)
        agent = await self._living(place, session_id)
        if agent is None:
            resume = session_id is not None
            if session_id is not None and not await CliSession(place.sandbox, session_id).exists():
                raise await _lost(host)
            session_id = session_id or str(uuid.uuid4())
            agent = await self._start(place, session_id, course, resume=resume)
        agent.course = course
        agent.begin_turn()
        blocks = [text for text in (told, place.turn.content) if text]
        await agent.say([{"type": "text", "text": text} for text in blocks])
        stretch = TurnRunner(course, agent, host)
        if told_before:
            await stretch.note_session()
        await stretch.run()
        await stretch.note_session()
        agent.course = None

    # ------------------------------------------------------------------ the loop's CLI

    async def _living(self, place: _LoopState, session_id: str | None) -> CliProcess | None:
        """The loop's CLI where it can take this turn; else it is ended."""
        agent = self._agents.get(place.turn.loop_id)
        if agent is None:
            return None
        fits = (
            agent.alive
            and agent.sandbox is place.sandbox
            and agent.launch == place.launch
            and agent.session_id == session_id
            and not agent.held_after
        )
        # A turn that waited may have been interrupted, which the CLI has not heard.
        if fits and await agent.interrupt(LATE_INTERRUPT):
            return agent
        self._retire(place.turn.loop_id)
        return None

    async def _start(
        self, place: _LoopState, session_id: str, course: TurnState, *, resume: bool
    ) -> CliProcess:
        agent = CliProcess(
            await self._load(), place.sandbox, place.launch, session_id, self._agent_limits, course
        )
        try:
            await agent.start(resume=resume)
        except TurnFailure as error:
            if resume and NO_CONVERSATION in agent.pipe.stderr:
                raise await _lost(place.host) from error
            raise
        self._agents[place.turn.loop_id] = agent
        return agent

    async def _stop(self, loop_id: str) -> None:
        """The turn was interrupted: stop what runs, within milliseconds.

        One that just came to rest may as well be going on after a restart: its calls stay open,
        and the next turn, if one comes, has them dropped.
        """
        agent = self._agents.get(loop_id)
        if agent is not None and not _rests(agent):
            agent.course = None
            if not await asyncio.shield(agent.interrupt()):
                await asyncio.shield(agent.end_tools())
                self._retire(loop_id)

    def _retire(self, loop_id: str) -> None:
        """End the loop's CLI; the engine waits for its end when it closes."""
        agent = self._agents.pop(loop_id, None)
        if agent is not None:
            ending = asyncio.get_running_loop().create_task(agent.kill())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    @staticmethod
    async def _load() -> Any:
        """The SDK; importing it takes seconds."""
        try:
            return await asyncio.to_thread(importlib.import_module, SDK)
        except ImportError as error:
            raise TurnFailure(
                "The Claude Agent SDK cannot be imported. Install the extra again: "
                "pip install -U 'loopat-jupyter[claude]'."
            ) from error


async def _lost(host: TurnHost) -> TurnFailure:
    """The session is gone: the next turn begins another."""
    await host.journal({"type": LOST})
    return TurnFailure(LOST_SESSION)


def _waits_for(agent: CliProcess, turn: Turn) -> bool:
    course = agent.course
    return isinstance(course, TurnState) and course.turn.turn_id == turn.turn_id


def _rests(agent: CliProcess) -> bool:
    return isinstance(agent.course, TurnState) and agent.course.ledger.resting


def _session_of(turn: Turn) -> str:
    ids = [str(entry["id"]) for entry in turn.journal if entry.get("type") == SESSION]
    if not ids:
        raise TurnFailure(LOST_SESSION)
    return ids[-1]
