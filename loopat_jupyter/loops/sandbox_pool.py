"""The sandboxes of this server: one for each loop that needs one, started once, evicted when idle.

Starting is single flight: whoever asks while a sandbox starts waits for the same one, and a
caller that is cancelled does not stop the start for the others. Idle means no turn activity for
``idle_timeout`` seconds; a turn that waits for a person is idle.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from .errors import SandboxSpawnFailed
from .ports.sandbox import Sandbox, SandboxSpec, SandboxTier

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Slot:
    # Slots are never removed: somebody may be waiting for the lock of one.
    sandbox: Sandbox | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    holds: int = 0
    timer: asyncio.TimerHandle | None = None

    @property
    def alive(self) -> bool:
        return self.sandbox is not None and self.sandbox.alive


class SandboxPool:
    """``on_evict(loop_id)`` is called before a sandbox is stopped, so that a turn inside ends as
    evicted and not as one that lost its sandbox."""

    def __init__(
        self,
        tier: SandboxTier,
        *,
        idle_timeout: float,
        on_evict: Callable[[str], Awaitable[None]],
    ) -> None:
        self._tier = tier
        self._idle_timeout = idle_timeout
        self._on_evict = on_evict
        self._slots: dict[str, _Slot] = {}
        self._closed = False
        self._evictions: set[asyncio.Task[None]] = set()

    def is_alive(self, loop_id: str) -> bool:
        slot = self._slots.get(loop_id)
        return slot is not None and slot.alive

    async def acquire(self, spec: SandboxSpec) -> Sandbox:
        """The loop's living sandbox. Raises ``SandboxSpawnFailed``."""
        if self._closed:
            raise SandboxSpawnFailed("The server is stopping. Send the message again later.")
        slot = self._slots.setdefault(spec.loop_id, _Slot())
        async with slot.lock:
            if slot.sandbox is not None and not slot.sandbox.alive:
                await slot.sandbox.stop()
                slot.sandbox = None
            if slot.sandbox is None:
                sandbox = self._tier.create(spec)
                try:
                    await sandbox.start()
                except BaseException:
                    await asyncio.shield(sandbox.stop())
                    raise
                slot.sandbox = sandbox
            slot.sandbox.network.set_policy(spec.egress)
            return slot.sandbox

    def hold(self, loop_id: str) -> None:
        """A turn of the loop is running: do not evict."""
        slot = self._slots.setdefault(loop_id, _Slot())
        slot.holds += 1
        if slot.timer is not None:
            slot.timer.cancel()
            slot.timer = None

    def release(self, loop_id: str) -> None:
        """The turn is suspended or has ended: the idle time begins."""
        slot = self._slots[loop_id]
        slot.holds -= 1
        if slot.holds == 0 and slot.timer is None:
            loop = asyncio.get_running_loop()
            slot.timer = loop.call_later(self._idle_timeout, self._begin_eviction, loop_id)

    def _begin_eviction(self, loop_id: str) -> None:
        task = asyncio.get_running_loop().create_task(self._evict(loop_id))
        self._evictions.add(task)
        task.add_done_callback(self._evictions.discard)

    async def _evict(self, loop_id: str) -> None:
        self._slots[loop_id].timer = None
        try:
            await self.stop(loop_id, only_idle=True)
        except Exception:
            log.exception("loopat: evicting the idle sandbox of %s failed", loop_id)

    async def stop(self, loop_id: str, *, only_idle: bool = False) -> None:
        """Stop the loop's sandbox, if it has one; ``only_idle``: unless a turn began meanwhile."""
        slot = self._slots.get(loop_id)
        if slot is None:
            return
        async with slot.lock:
            if only_idle and slot.holds:
                return
            sandbox, slot.sandbox = slot.sandbox, None
            if sandbox is not None:
                try:
                    await self._on_evict(loop_id)
                finally:
                    await sandbox.stop()

    async def retained(self) -> Sequence[str]:
        """The loops of which the tier keeps something, of earlier servers too."""
        return await self._tier.retained()

    async def remove(self, loop_id: str) -> None:
        """The loop was archived: stop its sandbox, and keep nothing of it but its files."""
        await self.stop(loop_id)
        await self._tier.remove(loop_id)

    async def close(self) -> None:
        """Stop everything; when it returns no sandbox is left, and none starts any more."""
        self._closed = True
        for slot in self._slots.values():
            if slot.timer is not None:
                slot.timer.cancel()
        await asyncio.gather(*(self.stop(loop_id) for loop_id in tuple(self._slots)))
        if self._evictions:
            await asyncio.gather(*self._evictions)
        await asyncio.to_thread(self._tier.close)
