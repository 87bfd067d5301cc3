"""The loops of this server: what the API calls to change one.

One object for all loops. It checks ownership (:meth:`LoopService.owned_loop`, the one place) and
keeps an actor for each loop that has work. Plain reads are not here: the API makes them at the
ports. It knows no HTTP; what it raises is in :mod:`.errors`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .actor import ActorDeps, LoopActor
from .choice_answers import parse_answer
from .errors import ChoiceNotFound, LoopNotFound, NotFound, NotLoopOwner
from .event_broadcaster import EventBroadcaster
from .models import (
    AcceptedMessage,
    ChoiceRecord,
    LoopRecord,
    NewMessage,
    SharedFolder,
    Source,
    now,
)
from .ports.engine import EngineSet, PermissionMode
from .ports.files import LoopFileStore
from .ports.sandbox import SandboxSpec
from .ports.store import StorePort
from .sandbox_pool import SandboxPool
from .transcript_source import StoredTurn, TranscriptIndex, TranscriptStream

QUEUE_LIMIT = 1000
"""Messages that may wait in one loop; more are refused with ``overloaded``."""


class LoopHome(Protocol):
    """What the domain needs of the context: a loop's folders and what it may be made with."""

    async def prepare_loop(self, new: NewLoop) -> PreparedLoop:
        """Check what ``new`` names, and make the loop's directories. All or nothing."""

    async def remove_loop(self, loop_id: str) -> None: ...

    async def spec(self, loop: LoopRecord) -> SandboxSpec: ...

    def host_path_aliases(self, loop: LoopRecord) -> Mapping[str, str]:
        """Paths of this host that the loop may have seen, and what to call them elsewhere.

        Asks the file system: call it off the event loop.
        """


@dataclass(frozen=True, slots=True)
class NewLoop:
    """A loop to be created. ``None`` means the owner's default."""

    loop_id: str
    owner: str
    title: str
    metadata: Mapping[str, str]
    profiles: tuple[str, ...] | None
    vault: str | None
    repo: str | None
    folders: tuple[SharedFolder, ...]


@dataclass(frozen=True, slots=True)
class PreparedLoop:
    """What the names in a :class:`NewLoop` resolve to."""

    profiles: tuple[str, ...]
    vault: str
    folders: tuple[SharedFolder, ...]


class LoopService:
    """See the module's docstring."""

    def __init__(
        self,
        store: StorePort,
        event_log: EventBroadcaster,
        engines: EngineSet,
        sandboxes: SandboxPool,
        home: LoopHome,
        files: LoopFileStore,
        *,
        default_mode: PermissionMode,
        on_activity: Callable[[], None],
    ) -> None:
        self._store = store
        self._broadcaster = event_log
        self._engines = engines
        self._files = files
        self._sandboxes = sandboxes
        self._home = home
        self._actors: dict[str, LoopActor] = {}
        self._closing = False
        self._actor_deps = ActorDeps(
            store, event_log, engines, sandboxes, default_mode, home.spec, on_activity
        )

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Resume what the last server left unfinished."""
        for loop_id in self._store.unfinished:
            loop = await self._store.loops.get(loop_id)
            if loop is not None:
                self._actor(loop).wake()
        for loop_id in await self._sandboxes.retained():
            loop = await self._store.loops.get(loop_id)
            if loop is None or loop.archived:
                await self._sandboxes.remove(loop_id)

    async def close(self) -> None:
        """End what runs, and every stream. Stored turns resume after the next start.

        The server may still hand in requests: what they accept stays queued.
        """
        self._closing = True
        await asyncio.gather(*(actor.stop("server_restarted") for actor in self._actors.values()))
        self._broadcaster.end_all()
        await self._sandboxes.close()
        await self._engines.close()
        await asyncio.to_thread(self._files.close)

    async def sandbox_evicted(self, loop_id: str) -> None:
        """The pool is about to stop a loop's sandbox."""
        actor = self._actors.get(loop_id)
        if actor is not None:
            actor.evicted()
        await self._engines.close_loop(loop_id)

    @property
    def running(self) -> int:
        """How many turns run right now; one that waits for a person does not."""
        return sum(not (actor.suspended or actor.waiting) for actor in self._actors.values())

    def _actor(self, loop: LoopRecord) -> LoopActor:
        actor = self._actors.get(loop.loop_id)
        if actor is None:
            actor = self._actors[loop.loop_id] = LoopActor(loop, self._actor_deps)
            if self._closing:
                actor.close()
        return actor

    # ------------------------------------------------------------------ loops

    async def owned_loop(self, caller: str, loop_id: str) -> LoopRecord:
        """The loop, if it is the caller's. Raises ``LoopNotFound``, ``NotLoopOwner``."""
        loop = await self._store.loops.get(loop_id)
        if loop is None:
            raise LoopNotFound("There is no such loop.")
        if loop.owner != caller:
            raise NotLoopOwner("This loop belongs to somebody else.")
        return loop

    async def create(self, new: NewLoop) -> LoopRecord:
        """Make a loop. What fails leaves nothing behind."""
        prepared = await self._home.prepare_loop(new)
        loop = LoopRecord(
            loop_id=new.loop_id,
            owner=new.owner,
            title=new.title,
            created_at=now(),
            metadata=new.metadata,
            profiles=prepared.profiles,
            vault=prepared.vault,
            repo=new.repo,
            folders=prepared.folders,
        )
        try:
            await self._store.loops.create(loop)
        except BaseException:
            await asyncio.shield(self._home.remove_loop(new.loop_id))
            raise
        return loop

    async def archive(self, loop: LoopRecord) -> None:
        """Archive: interrupt, cancel what is queued, stop the sandbox, keep the record."""
        await self._store.loops.archive(loop.loop_id)
        actor = self._actors.get(loop.loop_id)
        if actor is not None:
            await actor.stop("interrupted")
        await self._store.turns.cancel_all(loop.loop_id)
        self._actors.pop(loop.loop_id, None)
        await self._sandboxes.remove(loop.loop_id)
        await self._files.remove_loop(loop)

    # ------------------------------------------------------------------ messages

    async def accept_message(
        self, caller: str, loop: LoopRecord, message: NewMessage
    ) -> AcceptedMessage:
        """Accept a message; when this returns it is on disk, and will run once."""
        accepted = await self._store.turns.accept(
            caller, loop.loop_id, message, queue_limit=QUEUE_LIMIT
        )
        self._actor(loop).wake()
        return accepted

    async def read_transcript(
        self, loop: LoopRecord, *, turn_id: str | None, last: int | None
    ) -> TranscriptStream:
        """What happened in the loop so far: all of it, one turn, or the ``last`` newest.

        Raises:
            NotFound: the loop has no turn ``turn_id``.
        """
        index = await self._store.transcript.index(loop.loop_id, last=last)
        if turn_id is not None:
            if await self._store.transcript.turn(loop.loop_id, turn_id, 0) is None:
                raise NotFound("There is no such turn in this loop.")
            index = replace(index, turn_ids=(turn_id,))
        aliases = await asyncio.to_thread(self._home.host_path_aliases, loop)
        return TranscriptStream(index.seq, aliases, self._turns(loop, index))

    async def _turns(self, loop: LoopRecord, index: TranscriptIndex) -> AsyncIterator[StoredTurn]:
        for turn_id in index.turn_ids:
            turn = await self._store.transcript.turn(loop.loop_id, turn_id, index.seq)
            if turn is not None:
                yield turn

    async def interrupt(self, loop: LoopRecord) -> None:
        """End the turn the loop is at; returns when its end is stored. Nothing when idle."""
        await self._actor(loop).interrupt()

    # ------------------------------------------------------------------ choices and rules

    async def pending_choice(self, loop: LoopRecord, choice_id: str) -> ChoiceRecord:
        """A choice that waits for an answer. Raises ``ChoiceNotFound``."""
        choice = None
        if not loop.archived:
            choice = await self._store.choices.get(loop.loop_id, choice_id)
        if choice is None or not choice.pending:
            raise ChoiceNotFound("There is no such pending choice: it may have been answered.")
        return choice

    async def resolve_choice(
        self, loop: LoopRecord, choice_id: str, body: Mapping[str, Any], source: Source
    ) -> None:
        """Resolve a pending choice; of two answers at once exactly one is taken.

        Raises:
            ChoiceNotFound: not pending (any more), or not this loop's.
            InvalidChoicePayload: the body does not fit; the choice stays pending.
        """
        choice = await self.pending_choice(loop, choice_id)
        resolution = parse_answer(choice, body, source)
        if not await self._store.choices.resolve(choice, resolution):
            raise ChoiceNotFound("Somebody else answered this choice a moment ago.")
        self._actor(loop).choice_resolved(choice_id)

    async def delete_rule(self, loop: LoopRecord, rule_id: str) -> None:
        if not await self._store.loops.delete_rule(loop.loop_id, rule_id):
            raise NotFound("There is no such rule in this loop.")
        actor = self._actors.get(loop.loop_id)
        if actor is not None:
            actor.rules_changed()
