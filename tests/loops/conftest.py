"""The domain over a real store, with an engine and a sandbox whose every step a test decides."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.errors import SandboxSpawnFailed
from loopat_jupyter.loops.event_broadcaster import EventBroadcaster
from loopat_jupyter.loops.models import LoopEvent, LoopRecord, NewMessage, new_loop_id
from loopat_jupyter.loops.ports.engine import EngineSelection, Turn, TurnHost
from loopat_jupyter.loops.ports.network import Egress
from loopat_jupyter.loops.ports.sandbox import SandboxIsolation, SandboxSpec
from loopat_jupyter.loops.sandbox_pool import SandboxPool
from loopat_jupyter.loops.service import LoopService, NewLoop, PreparedLoop
from loopat_jupyter.store import Store
from loopat_jupyter.workspace.files import WorkspaceFiles

Script = Callable[[Turn, TurnHost], Awaitable[None]]


class ScriptedEngine:
    """Runs whatever the test put into ``script``."""

    name = "scripted"
    durable_choices = True

    def __init__(self) -> None:
        self.script: Script = self._reply
        self.turns: list[Turn] = []

    async def _reply(self, turn: Turn, host: TurnHost) -> None:
        await host.text(f"You said: {turn.content}")

    async def run(self, turn: Turn, host: TurnHost) -> None:
        self.turns.append(turn)
        await self.script(turn, host)

    async def prepare(self) -> None: ...
    async def close_loop(self, loop_id: str) -> None: ...
    async def close(self) -> None: ...


@dataclass
class OneEngine:
    """A server with one engine."""

    engine: ScriptedEngine

    async def select(self) -> EngineSelection:
        return EngineSelection(self.engine, "a test")

    def named(self, name: str) -> ScriptedEngine | None:
        return self.engine if name == self.engine.name else None

    async def prepare(self) -> None: ...
    async def close_loop(self, loop_id: str) -> None: ...
    async def close(self) -> None: ...


@dataclass
class FakeNetwork:
    """Keeps what it is told."""

    permitted: set[Destination] = field(default_factory=set)
    egress: Egress = field(default_factory=Egress)

    def set_grants(self, destinations: set[Destination]) -> None:
        self.permitted = destinations

    def set_policy(self, egress: Egress) -> None:
        self.egress = egress

    def drain_denied(self) -> list[Destination]:
        return []


@dataclass
class FakeSandbox:
    """A sandbox that only lives and dies."""

    tier: FakeTier
    alive: bool = False
    network: FakeNetwork = field(default_factory=lambda: FakeNetwork())

    async def start(self) -> None:
        self.tier.starts += 1
        await self.tier.may_start.wait()
        if self.tier.broken:
            raise SandboxSpawnFailed("no sandbox here")
        self.alive = True

    async def stop(self) -> None:
        self.tier.stops += self.alive
        self.alive = False


@dataclass
class FakeTier:
    starts: int = 0
    stops: int = 0
    broken: bool = False
    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    isolation: SandboxIsolation = field(default_factory=lambda: SandboxIsolation("toy", True))
    remains: list[str] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)

    def create(self, spec: SandboxSpec) -> FakeSandbox:
        return FakeSandbox(self)

    async def retained(self) -> list[str]:
        return self.remains

    async def remove(self, loop_id: str) -> None:
        self.discarded.append(loop_id)

    def close(self) -> None: ...


class FakeHome:
    async def prepare_loop(self, draft: NewLoop) -> PreparedLoop:
        return PreparedLoop((), "default", ())

    async def remove_loop(self, loop_id: str) -> None: ...

    def host_path_aliases(self, loop: LoopRecord) -> dict[str, str]:
        return {}

    async def spec(self, loop: LoopRecord) -> SandboxSpec:
        return SandboxSpec(loop.loop_id, Path("/workdir"), Path("/home"))


class Domain:
    """A running domain over the database file ``path``; a second one is a restart."""

    def __init__(self, path: Path, idle_timeout: float = 3600) -> None:
        self.path = path
        self.engine = ScriptedEngine()
        self.tier = FakeTier()
        self.tier.may_start.set()
        self.store = Store(path)
        self.events: list[LoopEvent] = []
        self._arrived = asyncio.Event()
        self.sandboxes = SandboxPool(
            self.tier,  # type: ignore[arg-type]
            idle_timeout=idle_timeout,
            on_evict=self._evicted,
        )
        self.broadcaster = EventBroadcaster(self.store.events)
        self.service = LoopService(
            self.store,
            self.broadcaster,
            OneEngine(self.engine),
            self.sandboxes,
            FakeHome(),
            WorkspaceFiles(lambda loop_id: path.parent / loop_id, max_size=1 << 20, owner=None),
            default_mode="default",
            on_activity=lambda: None,
        )

    async def _evicted(self, loop_id: str) -> None:
        await self.service.sandbox_evicted(loop_id)

    async def start(self) -> None:
        self.store.start(self._on_stored)
        await self.service.start()

    def _on_stored(self, events) -> None:
        self.events.extend(events)
        self.broadcaster.publish(events)
        self._arrived.set()

    async def close(self) -> None:
        await self.service.close()
        self.store.close()

    def as_a_kill_would_leave_it(self, path: Path) -> Path:
        """A copy of the database as it is on disk right now, nothing ended, nothing flushed."""
        for suffix in ("", "-wal"):
            source = Path(f"{self.path}{suffix}")
            if source.exists():
                shutil.copyfile(source, f"{path}{suffix}")
        return path

    async def loop(self, owner: str = "ada") -> LoopRecord:
        draft = NewLoop(new_loop_id(), owner, "t", {}, None, None, None, ())
        return await self.service.create(draft)

    async def send(self, loop: LoopRecord, content: str = "hi", **options) -> str:
        accepted = await self.service.accept_message(
            loop.owner, loop, NewMessage(content, **options)
        )
        return accepted.turn_id

    async def until(self, name: str, turn_id: str) -> LoopEvent:
        """The turn's first event of that name, when it is stored."""
        async with asyncio.timeout(10):
            while True:
                for event in self.events:
                    if (event.name, event.turn_id) == (name, turn_id):
                        return event
                self._arrived.clear()
                await self._arrived.wait()

    def names(self, turn_id: str) -> list[str]:
        return [event.name for event in self.events if event.turn_id == turn_id]


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    one = Domain(tmp_path / "loopat.db")
    await one.start()
    yield one
    await one.close()
