"""The actor of one loop: takes its turns one after the other.

At most one task exists for a loop, while it has a turn that can run; an idle loop, and one whose
turn waits for a person, has none. The actor holds no state that matters: which turn comes next is
read from the store each time, so a crash between two lines loses nothing.

Ending a running turn from outside is cancellation of its task with a *cause*, which says how the
turn's end is stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from .errors import DomainError, SandboxSpawnFailed, StoreError, TurnFailure
from .event_broadcaster import EventBroadcaster
from .models import ChoiceRecord, LoopRecord, TurnRecord
from .ports.engine import Engine, EngineSet, PermissionMode, Turn, TurnSuspended
from .ports.sandbox import Sandbox, SandboxSpec
from .ports.store import StorePort
from .sandbox_pool import SandboxPool
from .turn_context import TurnContext

log = logging.getLogger(__name__)

Cause = Literal["interrupted", "server_restarted", "sandbox_evicted"]

ERROR_OF_CAUSE: dict[Cause, str] = {
    "interrupted": "",
    "server_restarted": (
        "The server was stopped while this turn ran. What it had done is kept, and the "
        "conversation goes on from there: send a message to continue."
    ),
    "sandbox_evicted": (
        "This turn waited for an answer until its sandbox was evicted, and its agent cannot wait "
        "longer than its sandbox. Send the message again."
    ),
}

STORE_RETRY = 5.0
"""Seconds after which a loop whose store refused a write tries again. Nothing reports that a full
disk has room again."""

UNEXPECTED = (
    "The agent failed in a way it did not expect; the server's log has the details. What it had "
    "done is kept: send a message to continue."
)
ENGINE_GONE = (
    "This turn was begun by the engine {name!r}, which this server does not have any more. What it "
    "had done is kept: install that engine again, or send the message anew."
)
NOT_SAVED = (
    "The server could not save this turn's events, so it was ended. What had been saved is kept: "
    "send a message to continue."
)


@dataclass(frozen=True, slots=True)
class ActorDeps:
    """What every actor works with."""

    store: StorePort
    log: EventBroadcaster
    engines: EngineSet
    sandboxes: SandboxPool
    default_mode: PermissionMode
    spec: Callable[[LoopRecord], Awaitable[SandboxSpec]]
    on_activity: Callable[[], None]


class _TurnRun:
    """One uninterrupted run of a turn: its task, its host, and the cause that ended it."""

    def __init__(self, turn: TurnRecord) -> None:
        self.turn = turn
        self.task: asyncio.Task[None] | None = None
        self.host: TurnContext | None = None
        self.cause: Cause | None = None
        self.has_begun = False
        self.ended = asyncio.Event()

    def cancel(self, cause: Cause) -> None:
        if self.cause is None:
            self.cause = cause
            assert self.task is not None
            self.task.cancel()


class LoopActor:
    def __init__(self, loop: LoopRecord, deps: ActorDeps) -> None:
        self._loop = loop
        self._deps = deps
        self._task: asyncio.Task[None] | None = None
        self._rerun = False
        self._run: _TurnRun | None = None
        self._changed = asyncio.Event()
        self._stopping: Cause | None = None

    # ------------------------------------------------------------------ from outside

    @property
    def suspended(self) -> bool:
        return self._task is None

    @property
    def waiting(self) -> bool:
        """Its engine has no durable choices and holds the task until a person has answered."""
        host = None if self._run is None else self._run.host
        return host is not None and host.is_waiting

    def wake(self) -> None:
        """There may be something to do: a message, an answer."""
        if self._stopping:
            return
        self._rerun = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    def rules_changed(self) -> None:
        """A rule of the loop was deleted."""
        if self._run is not None and self._run.host is not None:
            self._run.host.rules_changed()

    def choice_resolved(self, choice_id: str) -> None:
        if self._run is not None and self._run.host is not None:
            self._run.host.choice_resolved(choice_id)
        self.wake()

    async def interrupt(self) -> None:
        """End the turn the loop is at, if any; returns when its end is stored."""
        turns = self._deps.store.turns
        while True:
            while self._task is not None and self._run is None:  # it chooses the next turn
                self._changed.clear()
                await self._changed.wait()
            if self._run is not None:
                await self._interrupt_run(self._run)
                return
            turn = await turns.current(self._loop.loop_id)
            if self._task is not None:  # woken during that read, whose result may be old
                continue
            # From here to the store's queue nothing else runs: whatever begins later finds this.
            if turn is None or await turns.finish(turn, "interrupted", only=turn.state):
                self.wake()
                return

    @staticmethod
    async def _interrupt_run(run: _TurnRun) -> None:
        run.cancel("interrupted")
        await run.ended.wait()

    def evicted(self) -> None:
        """The sandbox was taken away; a turn that cannot wait without it ends."""
        if self._run is not None and self.waiting:
            self._run.cancel("sandbox_evicted")

    def close(self) -> None:
        """Take no turns: the server is stopping."""
        self._stopping = "server_restarted"

    async def stop(self, cause: Cause) -> None:
        """Take no more turns; end the running one. Returns when nothing runs."""
        self._stopping = cause
        self._rerun = False
        if self._run is not None:
            self._run.cancel(cause)
        if self._task is not None:
            await self._task

    # ------------------------------------------------------------------ the work

    async def _work(self) -> None:
        try:
            while self._rerun and not self._stopping:
                self._rerun = False
                while not self._stopping and (turn := await self._next()) is not None:
                    await self._run_turn(turn)
        except Exception as error:
            # What was accepted is safe on disk, and is tried again when there may be room.
            detail = not isinstance(error, StoreError)
            log.error("loopat: %s is suspended: %s", self._loop.loop_id, error, exc_info=detail)  # noqa: TRY400
            asyncio.get_running_loop().call_later(STORE_RETRY, self.wake)
        finally:
            self._task = None
            self._changed.set()

    async def _next(self) -> TurnRecord | None:
        turn = await self._deps.store.turns.next(self._loop.loop_id)
        if turn is not None and turn.state == "running":
            # Its end could not be written when it came.
            await self._deps.store.turns.finish(turn, "error", message=NOT_SAVED)
            return await self._next()
        return turn

    async def _run_turn(self, turn: TurnRecord) -> None:
        run = self._run = _TurnRun(turn)
        deps = self._deps
        deps.sandboxes.hold(self._loop.loop_id)
        deps.on_activity()
        run.task = asyncio.get_running_loop().create_task(self._run_and_record(run))
        if self._stopping:
            run.cancel(self._stopping)
        self._changed.set()
        try:
            await asyncio.wait([run.task])
            if run.cause is not None:
                await self._end(turn, run.cause)
            if not run.task.cancelled():
                run.task.result()
        finally:
            deps.sandboxes.release(self._loop.loop_id)
            deps.on_activity()
            self._run = None
            run.ended.set()

    async def _end(self, turn: TurnRecord, cause: Cause) -> None:
        """Store that the turn was ended from outside; nothing if it had ended by itself."""
        finish = self._deps.store.turns.finish
        if cause == "interrupted":
            await finish(turn, "interrupted")
        elif cause == "server_restarted":
            # A turn that had not begun, or is suspended on a choice, resumes after the restart.
            await finish(turn, "error", code=cause, message=ERROR_OF_CAUSE[cause], only="running")
        else:
            await finish(turn, "error", code=cause, message=ERROR_OF_CAUSE[cause])

    async def _run_and_record(self, run: _TurnRun) -> None:
        """Run the turn until it ends or is suspended, and store how it ended."""
        turn = run.turn
        finish = self._deps.store.turns.finish
        try:
            if not await self._run_engine(run):
                return
        except TurnSuspended:
            return
        except SandboxSpawnFailed as error:
            await finish(turn, "error", code="sandbox_spawn_failed", message=error.message)
        except TurnFailure as error:
            await finish(turn, "error", code=error.event_code, message=error.message)
        except DomainError as error:
            if not run.has_begun:
                raise  # its begin could not be saved: it has not begun, and is tried again
            await finish(turn, "error", code="agent_error", message=error.message)
        except Exception:
            log.exception("loopat: the engine failed in %s", turn.turn_id)
            await finish(turn, "error", code="agent_error", message=UNEXPECTED)
        else:
            await finish(turn, "done")

    async def _run_engine(self, run: _TurnRun) -> bool:
        """Run the engine; ``False`` if the turn was ended before it could begin or resume."""
        deps, turn, loop = self._deps, run.turn, self._loop
        journal: tuple[dict[str, Any], ...] = ()
        choices: tuple[ChoiceRecord, ...] = ()
        if turn.state == "queued":
            cold = not deps.sandboxes.is_alive(loop.loop_id)
            engine = (await deps.engines.select()).engine
            if not await deps.store.turns.begin(turn, cold_start=cold, engine=engine.name):
                return False
            run.has_begun = True
            spec = await deps.spec(loop)
            await deps.sandboxes.acquire(spec)
        else:
            if not await deps.store.turns.resume(turn):
                return False
            run.has_begun = True
            engine = self._engine_of(turn)
            spec = await deps.spec(loop)
            journal = await deps.store.turns.read_journal(turn)
            choices = tuple(await deps.store.choices.of_turn(turn))
        mode = turn.permission_mode or deps.default_mode
        acquire: Callable[[], Awaitable[Sandbox]] = lambda: deps.sandboxes.acquire(spec)  # noqa: E731
        run.host = TurnContext(
            turn,
            mode,
            deps.store,
            deps.log,
            acquire,
            durable_choices=engine.durable_choices,
            choices=choices,
            on_waiting=self._on_waiting,
        )
        try:
            await engine.run(
                Turn(
                    turn_id=turn.turn_id,
                    loop_id=loop.loop_id,
                    owner=loop.owner,
                    content=turn.content,
                    permission_mode=mode,
                    vault=loop.vault,
                    profiles=loop.profiles,
                    journal=journal,
                    folders=spec.folders,
                    egress=spec.egress,
                ),
                run.host,
            )
        finally:
            run.host.revoke_network_grants()
        return True

    def _on_waiting(self, waiting: bool) -> None:
        """An engine without durable choices holds its task for a person: its sandbox is idle."""
        sandboxes = self._deps.sandboxes
        (sandboxes.release if waiting else sandboxes.hold)(self._loop.loop_id)

    def _engine_of(self, turn: TurnRecord) -> Engine:
        """The engine that a turn began with: another one could not read its journal."""
        name = turn.engine or "builtin"
        engine = self._deps.engines.named(name)
        if engine is None:
            raise TurnFailure(ENGINE_GONE.format(name=name))
        return engine
