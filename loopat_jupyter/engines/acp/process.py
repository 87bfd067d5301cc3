"""A living agent: its process in the sandbox, the link to it, and how it is ended.

It lives between turns and dies with :meth:`AgentProcess.close`, with its sandbox, or by itself.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ...loops.errors import SandboxLost, TurnFailure
from ...loops.ports.sandbox import Process, Sandbox
from ..agents.jsonlines import JsonLinesTransport, TransportLimits
from ..agents.process_cleanup import MARK, kill_descendants
from ..agents.stderr_tail import StderrTail
from .client import AcpClient, OpenedSession, PromptResult
from .elicitation import Form
from .errors import KEPT, AgentGone, AgentRefused, not_started, refused
from .launch import AgentLaunch
from .permission import PermissionRequest
from .update_queue import UpdateQueue

OUTPUT_GRACE = 1.0
"""How long output may still come when the process has ended."""
WORDS_GRACE = 0.2
END_GRACE = 3.0


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """Seconds: ``start`` for the greeting, and for opening a session. ``cancel`` for ending the
    tools of an interrupted prompt by itself, ``settle`` for coming to rest after that.
    ``silence``: how long it may say nothing while no tool runs and nobody is asked."""

    start: float = 60.0
    cancel: float = 0.05
    settle: float = 2.0
    silence: float = 900.0
    wire: TransportLimits = field(default_factory=TransportLimits)


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A permission request or a form on its way to whoever decides it: by the id of an option, or
    the form's content; by ``None`` where nobody does."""

    ask: PermissionRequest | Form
    decision: asyncio.Future[Any]

    def decide(self, decision: str | Mapping[str, Any] | None) -> None:
        if not self.decision.done():
            self.decision.set_result(decision)


@dataclass(frozen=True, slots=True)
class PromptEnded:
    """The last of a prompt: its answer, or why there is none."""

    outcome: PromptResult | AgentGone | AgentRefused


Item = Mapping[str, Any] | PendingRequest | PromptEnded


class AgentProcess:
    """``inbox`` has what it says during a prompt. ``session`` is the open one, ``birth`` our own
    name for it. ``retired``: ids of tool calls whose end was not heard."""

    def __init__(
        self, launch: AgentLaunch, sandbox: Sandbox, process: Process, sdk: Any, limits: AgentLimits
    ) -> None:
        self.launch = launch
        self.sandbox = sandbox
        self.limits = limits
        self.inbox: UpdateQueue[Item] = UpdateQueue()
        self.session: OpenedSession | None = None
        self.birth = ""
        self.mark = ""
        self.can_load = False
        self.retired: frozenset[str] = frozenset()
        self._process = process
        self._wire = JsonLinesTransport(process, self.inbox.put, limits.wire)
        self.link = AcpClient(sdk, self._wire, self._asked, self._asked)
        self._words = StderrTail(process)
        self._code: int | None = None
        self._exited = asyncio.Event()
        self._settling: asyncio.Task[None] | None = None
        self._listening = asyncio.create_task(self._words.listen())
        self._watching = asyncio.create_task(self._watch())

    @classmethod
    async def start(
        cls, launch: AgentLaunch, sandbox: Sandbox, sdk: Any, limits: AgentLimits
    ) -> Self:
        """Start and greet it. Raises ``TurnFailure``, and leaves nothing running then."""
        mark = secrets.token_hex(8)
        try:
            process = await sandbox.spawn(
                list(launch.argv), cwd=sandbox.workdir, env={**launch.env, MARK: mark}
            )
        except OSError as error:
            raise not_started(launch.agent, launch.argv[0], str(error)) from error
        agent = cls(launch, sandbox, process, sdk, limits)
        agent.mark = mark
        try:
            async with asyncio.timeout(limits.start):
                agent.can_load = await agent.link.initialize()
        except BaseException as error:
            failure = await agent.failure(error, "start")
            await agent.close()
            if failure is None:
                raise
            raise failure from error
        return agent

    @property
    def alive(self) -> bool:
        return not (self._wire.ended.is_set() or self._exited.is_set()) and self.sandbox.alive

    # ------------------------------------------------------------------ what it says

    async def _asked(self, ask: PermissionRequest | Form) -> Any:
        asked = PendingRequest(ask, asyncio.get_running_loop().create_future())
        if not await self.inbox.put(asked):
            return None
        return await asked.decision

    def stop_listening(self) -> None:
        """The prompt is over: nothing it says is read, nothing it asks is granted."""
        for item in self.inbox.close():
            if isinstance(item, PendingRequest):
                item.decide(None)

    async def _watch(self) -> None:
        """Notice its end, also where something it started holds its output open."""
        try:
            self._code = await self._process.wait()
        except SandboxLost:
            return
        finally:
            self._exited.set()
        try:
            async with asyncio.timeout(OUTPUT_GRACE):
                await self._wire.ended.wait()
        except TimeoutError:
            await self.link.close()

    # ------------------------------------------------------------------ what went wrong

    async def failure(self, error: BaseException, doing: str) -> TurnFailure | None:
        """What to tell the person; ``None`` for an error that is not the agent's."""
        name = self.launch.agent
        if isinstance(error, AgentRefused):
            return refused(name, error)
        if isinstance(error, TimeoutError):
            said = self._wire.garbage or str(self._words)
            last = f" The last it said: {said}" if said else ""
            return TurnFailure(
                f"The agent {name!r} did not {doing} within {self.limits.start:g} s, so it was "
                f"ended.{last}"
            )
        if isinstance(error, AgentGone):
            return TurnFailure(f"The agent {name!r} {await self._why_gone()} {KEPT}")
        return None

    async def _why_gone(self) -> str:
        if self._wire.failure is not None:
            return self._wire.failure
        await asyncio.wait([self._watching], timeout=OUTPUT_GRACE)
        await asyncio.wait([self._listening], timeout=WORDS_GRACE)
        if not self.sandbox.alive:
            return "has lost its sandbox."
        how = "closed its output"
        if self._code is not None:
            by = f"was killed by signal {-self._code}" if self._code < 0 else None
            how = by or f"ended with exit code {self._code}"
        said = str(self._words) or self._wire.garbage
        return f"{how}: {said}" if said else f"{how} without a word."

    # ------------------------------------------------------------------ how it ends

    async def interrupt(self, answering: asyncio.Task[None], tools_since: float | None) -> None:
        """End the prompt. Its tools are dead when this returns; the agent itself gets a little
        longer to come to rest, unheard, and is ended if it does not.

        ``tools_since``: seconds since which tools run, if any may. ``answering`` is taken over.
        """
        self.stop_listening()
        cancelling = asyncio.create_task(self._cancel())
        await asyncio.wait([answering], timeout=self.limits.cancel)
        if tools_since is not None and self.alive:
            await kill_descendants(self.sandbox, self._process.pid, younger_than=tools_since)
        self._settling = asyncio.create_task(self._settle(cancelling, answering))
        if answering.done():
            await self.settled()

    async def settled(self) -> None:
        """It rests, or has been ended."""
        if self._settling is not None:
            await asyncio.wait([self._settling])
            self._settling = None

    async def _settle(self, *tasks: asyncio.Task[None]) -> None:
        try:
            _, under_way = await asyncio.wait(tasks, timeout=self.limits.settle)
            if under_way:
                await self._kill()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _cancel(self) -> None:
        if self.session is not None:
            await self.link.cancel(self.session.session_id)

    async def end_orphans(self, tools_since: float) -> None:
        """It has died: end the tools that it has left, begun within so many seconds."""
        if self._exited.is_set() and self.sandbox.alive:
            await kill_descendants(
                self.sandbox, self._process.pid, younger_than=tools_since, mark=self.mark
            )

    async def close(self) -> None:
        """End it, and what it has started. When this returns nothing of it is left but what it
        has put into the background."""
        self.stop_listening()
        own = [self._listening, self._watching]
        try:
            await self._kill()
        finally:
            await self.link.close()
            if self._settling is not None:
                own.append(self._settling)
            for task in own:
                task.cancel()
            await asyncio.gather(*own, return_exceptions=True)

    async def _kill(self) -> None:
        try:
            if not self._exited.is_set():
                await self._process.kill(signal.SIGSTOP)
                await kill_descendants(self.sandbox, self._process.pid)
            await self._process.kill(signal.SIGKILL)
            async with asyncio.timeout(END_GRACE):
                await self._exited.wait()
        except (SandboxLost, TimeoutError):
            return  # it has ended with its sandbox, or will with that
