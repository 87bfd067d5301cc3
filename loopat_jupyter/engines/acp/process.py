"""The process of one agent in the sandbox: its start, its protocol connection, its end.

It lives between turns, and ends with :meth:`AgentProcess.close`, with its sandbox, or by itself.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from ...loops.errors import SandboxLost, TurnFailure
from ...loops.ports.sandbox import Process, Sandbox
from ..agents.errors import WORK_KEPT
from ..agents.jsonlines import JsonLinesLimits
from ..agents.process_cleanup import MARK, kill_descendants
from ..agents.stderr_tail import StderrTail
from .client import AcpClient, OpenedSession, PromptResult
from .elicitation import Form
from .errors import AgentExited, AgentRefused, not_started, refused
from .launch import AgentLaunch
from .permission import PermissionRequest
from .transport import AcpTransport

OUTPUT_GRACE = 1.0
"""Seconds in which output may still come when the process has ended."""
STDERR_GRACE = 0.2
EXIT_GRACE = 3.0
QUEUE_SIZE = 4

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """Seconds: ``start`` for the process to respond to ``initialize``, and for opening a session;
    ``cancel`` for ending the tools of an interrupted prompt by itself; ``cancel_grace`` for ending
    that prompt; ``silence`` without any message while no tool runs and nobody is asked.

    ``requests``: how many requests of the agent may wait for their response at once.
    """

    start: float = 60.0
    cancel: float = 0.05
    cancel_grace: float = 2.0
    silence: float = 900.0
    lines: JsonLinesLimits = field(default_factory=JsonLinesLimits)
    requests: int = 64


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """A permission request or a form that waits for its response: the id of an option, or the
    form's content; ``None`` where nobody decides it any more."""

    request: PermissionRequest | Form
    response: asyncio.Future[Any]

    def resolve(self, response: str | Mapping[str, Any] | None) -> None:
        if not self.response.done():
            self.response.set_result(response)


@dataclass(frozen=True, slots=True)
class PromptEnded:
    """The last item of a prompt: its result, or why there is none."""

    outcome: PromptResult | AgentExited | AgentRefused


Item = Mapping[str, Any] | PendingRequest | PromptEnded
"""What an agent sends during a prompt; a mapping is a session update."""


class UpdateQueue(Generic[T]):
    """What an agent sends during one prompt, in order; between prompts it is discarded.

    One reader. While the queue is open and full, writers wait, and so does the agent.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T] | None = None

    def open(self) -> None:
        """Keep items from here on."""
        self._queue = asyncio.Queue(QUEUE_SIZE)

    def close(self) -> list[T]:
        """Discard items from here on, and release waiting writers. Returns the unread items."""
        queue, self._queue = self._queue, None
        unread: list[T] = []
        while queue is not None and not queue.empty():
            unread.append(queue.get_nowait())
        return unread

    async def put(self, item: T) -> bool:
        """``False`` if nobody will read the item."""
        queue = self._queue
        if queue is None:
            return False
        await queue.put(item)
        return queue is self._queue

    async def get(self) -> T:
        assert self._queue is not None
        return await self._queue.get()


class AgentProcess:
    """One running agent.

    ``updates`` has what it sends during a prompt. ``session`` is the open session, ``session_key``
    our own id of it. ``abandoned_calls``: the agent's ids of tool calls of earlier prompts whose
    end it never reported.
    """

    def __init__(
        self, launch: AgentLaunch, sandbox: Sandbox, process: Process, sdk: Any, limits: AgentLimits
    ) -> None:
        self.launch = launch
        self.sandbox = sandbox
        self.limits = limits
        self.updates: UpdateQueue[Item] = UpdateQueue()
        self.session: OpenedSession | None = None
        self.session_key = ""
        self.mark = ""
        self.can_load = False
        self.abandoned_calls: frozenset[str] = frozenset()
        self._process = process
        self._transport = AcpTransport(process, self.updates.put, limits.lines, limits.requests)
        self.client = AcpClient(sdk, self._transport, self._resolved, self._resolved)
        self._stderr = StderrTail(process)
        self._exit_code: int | None = None
        self._exited = asyncio.Event()
        self._cancelling: asyncio.Task[None] | None = None
        self._stderr_task = asyncio.create_task(self._stderr.read())
        self._exit_task = asyncio.create_task(self._wait_exit())

    @classmethod
    async def start(
        cls, launch: AgentLaunch, sandbox: Sandbox, sdk: Any, limits: AgentLimits
    ) -> Self:
        """Start the process and initialize the protocol.

        Raises:
            TurnFailure: it could not be started; nothing is left running.
        """
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
                agent.can_load = await agent.client.initialize()
        except BaseException as error:
            failure = await agent.failure(error, "start")
            await agent.close()
            if failure is None:
                raise
            raise failure from error
        return agent

    @property
    def alive(self) -> bool:
        return self._transport.usable and not self._exited.is_set() and self.sandbox.alive

    # ------------------------------------------------------------------ what it sends

    async def _resolved(self, request: PermissionRequest | Form) -> Any:
        """Queue a request of the agent and wait for its response."""
        pending = PendingRequest(request, asyncio.get_running_loop().create_future())
        if not await self.updates.put(pending):
            return None
        return await pending.response

    def close_updates(self) -> None:
        """The prompt is over: what the agent sends is discarded, what it asks is cancelled."""
        for item in self.updates.close():
            if isinstance(item, PendingRequest):
                item.resolve(None)

    async def _wait_exit(self) -> None:
        """Notice the end of the process, also where something it started holds its stdout open."""
        try:
            self._exit_code = await self._process.wait()
        except SandboxLost:
            return
        finally:
            self._exited.set()
        try:
            async with asyncio.timeout(OUTPUT_GRACE):
                await self._transport.ended.wait()
        except TimeoutError:
            await self.client.close()

    # ------------------------------------------------------------------ failures

    async def failure(self, error: BaseException, doing: str) -> TurnFailure | None:
        """The failure for the person; ``None`` for an error that is not the agent's."""
        name = self.launch.agent
        if isinstance(error, AgentRefused):
            return refused(name, error)
        if isinstance(error, TimeoutError):
            line = self._transport.last_garbage or self._stderr.relevant_line()
            last = f" The last it said: {line}" if line else ""
            return TurnFailure(
                f"The agent {name!r} did not {doing} within {self.limits.start:g} s, so it was "
                f"ended.{last}"
            )
        if isinstance(error, AgentExited):
            return TurnFailure(f"The agent {name!r} {await self._why_gone()} {WORK_KEPT}")
        return None

    async def _why_gone(self) -> str:
        if self._transport.failure is not None:
            return self._transport.failure
        await asyncio.wait([self._exit_task], timeout=OUTPUT_GRACE)
        await asyncio.wait([self._stderr_task], timeout=STDERR_GRACE)
        if not self.sandbox.alive:
            return "has lost its sandbox."
        how = "closed its output"
        if self._exit_code is not None:
            killed = f"was killed by signal {-self._exit_code}" if self._exit_code < 0 else None
            how = killed or f"ended with exit code {self._exit_code}"
        line = self._stderr.relevant_line() or self._transport.last_garbage
        return f"{how}: {line}" if line else f"{how} without a word."

    # ------------------------------------------------------------------ the end

    async def interrupt(self, prompting: asyncio.Task[None], tools_since: float | None) -> None:
        """End the prompt. Its tools are dead when this returns; the agent itself gets
        ``cancel_grace`` to end the prompt in the background, and is killed if it does not.

        ``tools_since``: when the first tool may have been started (monotonic); ``None`` where none
        runs. ``prompting`` is the task of the prompt; it is awaited here.
        """
        self.close_updates()
        cancelling = asyncio.create_task(self._send_cancel())
        await asyncio.wait([prompting], timeout=self.limits.cancel)
        if tools_since is not None and self.alive:
            # The age counts from now: a tool that was started at once is older than the interrupt.
            age = time.monotonic() - tools_since
            await kill_descendants(self.sandbox, self._process.pid, younger_than=age)
        self._cancelling = asyncio.create_task(self._finish_cancel(cancelling, prompting))
        if prompting.done():
            await self.wait_idle()

    async def wait_idle(self) -> None:
        """Return when an interrupted prompt has ended, or the agent has been killed."""
        if self._cancelling is not None:
            await asyncio.wait([self._cancelling])
            self._cancelling = None

    async def _finish_cancel(self, *tasks: asyncio.Task[None]) -> None:
        try:
            _, pending = await asyncio.wait(tasks, timeout=self.limits.cancel_grace)
            if pending:
                await self._kill()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_cancel(self) -> None:
        if self.session is not None:
            await self.client.cancel(self.session.session_id)

    async def kill_orphans(self, tools_since: float) -> None:
        """The process has died: kill the tools that it left, started within so many seconds."""
        if self._exited.is_set() and self.sandbox.alive:
            await kill_descendants(
                self.sandbox, self._process.pid, younger_than=tools_since, mark=self.mark
            )

    async def close(self) -> None:
        """End the process and its descendants. What it has put into the background lives on."""
        self.close_updates()
        own = [self._stderr_task, self._exit_task]
        try:
            await self._kill()
        finally:
            await self.client.close()
            if self._cancelling is not None:
                own.append(self._cancelling)
            for task in own:
                task.cancel()
            await asyncio.gather(*own, return_exceptions=True)

    async def _kill(self) -> None:
        """A sandbox that is lost meanwhile ends the process too, and so it is not waited for."""
        try:
            if not self._exited.is_set():
                # Stopped first: it must not start anything while its descendants are killed.
                await self._process.kill(signal.SIGSTOP)
                await kill_descendants(self.sandbox, self._process.pid)
            await self._process.kill(signal.SIGKILL)
            async with asyncio.timeout(EXIT_GRACE):
                await self._exited.wait()
        except (SandboxLost, TimeoutError):
            return
