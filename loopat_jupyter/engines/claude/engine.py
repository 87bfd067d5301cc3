"""The engine ``claude``: which CLI serves a loop's turn, and how long it lives.

Each loop has one CLI. It is started by the first turn, kept between turns and while a turn waits
for a person, and ended with the loop's sandbox. What it is started with (model, instructions, key)
is fixed for its life, so where that changes it is restarted and resumes its session. It calls its
model through the gateway of the sandbox's egress proxy, which holds the real key, and only while a
turn runs.

The session's id is in the journals of the turns; so the conversation survives an eviction and a
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
from ..agents.catch_up import missed_turns_prompt
from ..builtin.engine import EngineLimits
from ..builtin.history import recent_turns
from ..gateway.upstream import ModelUpstreamFactory
from ..plugin import ComposeInstructions
from . import SDK, journal
from .cli_process import CliLimits, CliProcess
from .errors import LOST_SESSION, NO_CONVERSATION, ErrorCapturingUpstream
from .launch import CliLaunch, build_launch, find_cli, instructions_argument
from .recovery import Recovery, end_held
from .session import CliSession
from .turn_runner import TurnRunner, TurnState

LATE_INTERRUPT = 2.0
"""Seconds for the CLI of a turn that was interrupted while it waited, when the next one begins."""
WRONG_API = (
    "The engine 'claude' speaks the Anthropic API, and the provider {provider!r} does not. Set its "
    '"api" to "anthropic" in config.json if it does, or LoopatExtension.engine to "builtin".'
)


@dataclass(frozen=True, slots=True)
class _TurnSetup:
    """One run of a turn: where it runs, and how a CLI is started there."""

    turn: Turn
    host: TurnHost
    sandbox: Sandbox
    launch: CliLaunch
    model: SelectedModel
    access: GatewayAccess
    upstream: ErrorCapturingUpstream
    past: Sequence[PastTurn]

    def new_state(self) -> TurnState:
        name = f"{self.model.provider}/{self.model.model}"
        return TurnState(self.turn, name, (self.model.api_key, self.access.key), self.upstream)


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
        cli_limits: CliLimits | None = None,
        program: Sequence[str] = (),
    ) -> None:
        """``program``: a command to run in the sandbox in place of the SDK's own CLI."""
        self._config = ConfigFile(home)
        self._upstreams = ModelUpstreamFactory()
        self._instructions = instructions
        self._limits = limits or EngineLimits()
        self._cli_limits = cli_limits or CliLimits()
        self._program = tuple(program)
        self._processes: dict[str, CliProcess] = {}
        self._ending: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ the port

    async def prepare(self) -> None:
        """Import the SDK ahead. Where that fails, the first turn reports it."""
        with contextlib.suppress(TurnFailure):
            await self._import_sdk()

    async def run(self, turn: Turn, host: TurnHost) -> None:
        model = await self._config.select_model(turn.vault)
        if model.api == "openai":
            raise TurnFailure(WRONG_API.format(provider=model.provider))
        upstream = ErrorCapturingUpstream(await self._upstreams.upstream(model))
        sandbox = await host.sandbox()
        access = await sandbox.network.open_model_gateway(upstream)
        try:
            launch = await self._launch(turn, model, access, sandbox)
            past = await recent_turns(host, journal.names_session)
            setup = _TurnSetup(turn, host, sandbox, launch, model, access, upstream, past)
            await self._run(setup)
        finally:
            sandbox.network.close_model_gateway()

    async def close_loop(self, loop_id: str) -> None:
        cli = self._processes.pop(loop_id, None)
        if cli is not None:
            await cli.kill()

    async def close(self) -> None:
        for loop_id in tuple(self._processes):
            await self.close_loop(loop_id)
        if self._ending:
            await asyncio.wait(tuple(self._ending))
        await self._upstreams.close()

    # ------------------------------------------------------------------ one turn

    async def _launch(
        self, turn: Turn, model: SelectedModel, access: GatewayAccess, sandbox: Sandbox
    ) -> CliLaunch:
        return build_launch(
            self._program or (await find_cli(sandbox),),
            model,
            await instructions_argument(sandbox, await self._instructions(turn)),
            access,
            sandbox.home,
            self._limits.tools,
            self._limits.model_calls,
        )

    async def _run(self, setup: _TurnSetup) -> None:
        """Run the turn, and end a CLI that is in a state from which it cannot go on."""
        loop_id = setup.turn.loop_id
        try:
            await self._start_or_resume(setup)
        except TurnSuspended:
            raise
        except asyncio.CancelledError:
            await self._interrupt(loop_id)
            raise
        except BaseException:
            cli = self._processes.get(loop_id)
            if cli is not None and (cli.busy or not cli.alive):
                await asyncio.shield(cli.kill_tools())
                self._end_process(loop_id)
            raise

    async def _start_or_resume(self, setup: _TurnSetup) -> None:
        turn, cli = setup.turn, self._processes.get(setup.turn.loop_id)
        if not turn.journal:
            await self._start_turn(setup)
            return
        usable = cli is not None and cli.alive and cli.sandbox is setup.sandbox
        if usable and cli is not None and _waits_in(cli, turn):
            await self._resume(setup, cli)
        else:
            await self._recover(setup, setup.new_state())

    async def _resume(self, setup: _TurnSetup, cli: CliProcess) -> None:
        """The CLI's hooks still wait for their output."""
        state: TurnState = cli.turn_state
        state.turn, state.upstream = setup.turn, setup.upstream
        runner = TurnRunner(state, cli, setup.host)
        await runner.retry_waiting()
        await runner.run()
        if cli.stop_after_call:
            await end_held(cli)
            await self._recover(setup, state)
        else:
            cli.turn_state = None

    async def _recover(self, setup: _TurnSetup, state: TurnState) -> None:
        """The CLI that asked has ended."""
        session_id = journal.session_of(setup.turn.journal)
        if session_id is None:
            raise TurnFailure(LOST_SESSION)
        self._end_process(setup.turn.loop_id)

        async def start() -> CliProcess:
            return await self._start_process(setup, session_id, state, resume=True)

        session = CliSession(setup.sandbox, session_id)
        await Recovery(state, setup.host, session, start).run()
        self._processes[setup.turn.loop_id].turn_state = None

    async def _start_turn(self, setup: _TurnSetup) -> None:
        state, host = setup.new_state(), setup.host
        session_id = journal.last_session(setup.past)
        has_session = session_id is not None
        missed = journal.missed_turns(setup.past, session_id)
        catch_up = missed_turns_prompt(missed, whole=len(missed) == len(setup.past))
        cli = await self._reusable_process(setup, session_id)
        if cli is None:
            if session_id is not None and not await CliSession(setup.sandbox, session_id).exists():
                raise await _session_lost(host)
            session_id = session_id or str(uuid.uuid4())
            cli = await self._start_process(setup, session_id, state, resume=has_session)
        cli.turn_state = state
        cli.reset_for_turn()
        texts = [text for text in (catch_up, setup.turn.content) if text]
        await cli.send_message([{"type": "text", "text": text} for text in texts])
        runner = TurnRunner(state, cli, host)
        if has_session:
            await runner.journal_session()
        await runner.run()
        await runner.journal_session()
        cli.turn_state = None

    # ------------------------------------------------------------------ the loop's CLI

    async def _reusable_process(
        self, setup: _TurnSetup, session_id: str | None
    ) -> CliProcess | None:
        """The loop's CLI where it can take this turn; any other is ended."""
        cli = self._processes.get(setup.turn.loop_id)
        if cli is None:
            return None
        fits = (
            cli.alive
            and cli.sandbox is setup.sandbox
            and cli.launch == setup.launch
            and cli.session_id == session_id
            and not cli.stop_after_call
        )
        # A turn that waited may have been interrupted, of which the CLI was not told then.
        if fits and await cli.interrupt(LATE_INTERRUPT):
            return cli
        self._end_process(setup.turn.loop_id)
        return None

    async def _start_process(
        self, setup: _TurnSetup, session_id: str, state: TurnState, *, resume: bool
    ) -> CliProcess:
        sdk = await self._import_sdk()
        cli = CliProcess(sdk, setup.sandbox, setup.launch, session_id, self._cli_limits, state)
        try:
            await cli.start(resume=resume)
        except TurnFailure as error:
            if resume and cli.transport.has_printed(NO_CONVERSATION):
                raise await _session_lost(setup.host) from error
            raise
        self._processes[setup.turn.loop_id] = cli
        return cli

    async def _interrupt(self, loop_id: str) -> None:
        """The turn was interrupted: stop what runs, within milliseconds.

        A turn that was just suspended may also be resumed after a restart: its calls stay open,
        and the next turn, if there is one, drops them.
        """
        cli = self._processes.get(loop_id)
        if cli is not None and not _is_suspended(cli):
            cli.turn_state = None
            if not await asyncio.shield(cli.interrupt()):
                await asyncio.shield(cli.kill_tools())
                self._end_process(loop_id)

    def _end_process(self, loop_id: str) -> None:
        """End the loop's CLI in the background; :meth:`close` waits for that."""
        cli = self._processes.pop(loop_id, None)
        if cli is not None:
            task = asyncio.get_running_loop().create_task(cli.kill())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    @staticmethod
    async def _import_sdk() -> Any:
        """The SDK's module. Imported in a thread, since that takes seconds."""
        try:
            return await asyncio.to_thread(importlib.import_module, SDK)
        except ImportError as error:
            raise TurnFailure(
                "The Claude Agent SDK cannot be imported. Install the extra again: "
                "pip install -U 'loopat-jupyter[claude]'."
            ) from error


async def _session_lost(host: TurnHost) -> TurnFailure:
    """Journal that the session is gone, so that the next turn creates another."""
    await host.journal(journal.lost_entry())
    return TurnFailure(LOST_SESSION)


def _waits_in(cli: CliProcess, turn: Turn) -> bool:
    """Whether this CLI holds the state of the suspended ``turn``."""
    state = cli.turn_state
    return isinstance(state, TurnState) and state.turn.turn_id == turn.turn_id


def _is_suspended(cli: CliProcess) -> bool:
    return isinstance(cli.turn_state, TurnState) and cli.turn_state.calls.can_suspend
