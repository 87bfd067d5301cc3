"""One living CLI: started in a loop's sandbox, kept between turns, ended with the sandbox.

The SDK speaks the control protocol; what the CLI asks through it (may this tool run?) and what it
says arrive in one inbox, in order, and whoever runs the turn takes them out. A question of the
CLI waits for its answer as long as this object lives, also while no turn runs.

The hooks fail closed: a call that nobody allowed is denied, by the CLI and by
:meth:`CliProcess._may_use`, which the CLI asks whenever its own rules would prompt.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...loops.errors import DomainError, SandboxLost, TurnFailure
from ...loops.ports.sandbox import Sandbox
from ..agents.process_cleanup import MARK, kill_descendants
from ..models.sanitize import sanitize_value
from . import unsupported_reason
from .command_results import output_of
from .errors import INSTALL_AGAIN, could_not_start
from .launch import CliLaunch
from .transport import SandboxTransport

INBOX = 256
HOOK_PATIENCE = 2_000_000.0
"""Seconds the CLI waits for an answer. Its timers cannot run longer than 2^31 milliseconds."""
NOT_ALLOWED = "User denied permission: nobody has allowed this call."
BETWEEN_TURNS = "Nothing may begin between two turns."

HookOutput = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CliLimits:
    """Times in seconds. ``silence``: how long the CLI may say nothing while no tool runs."""

    start: float = 30.0
    silence: float = 900.0
    interrupt: float = 0.1


@dataclass(eq=False, slots=True)
class ToolRequested:
    """The CLI wants to run a tool and waits for ``answer``, the output of its hook."""

    id: str
    tool: str
    input: Mapping[str, Any]
    agent_id: str | None
    answer: asyncio.Future[HookOutput]


@dataclass(eq=False, slots=True)
class CommandFinished:
    """A command has run and was refused destinations. Its result is on its way to the model, and
    waits for ``answer``, the output of its hook."""

    id: str
    tool: str
    ok: bool
    text: str
    refused: tuple[str, ...]
    agent_id: str | None
    answer: asyncio.Future[HookOutput]
    hook: str


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message of the CLI."""

    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HeldBeforeModel:
    """After a call that was asked again, the CLI is about to ask its model; it is held here."""


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The CLI has ended; ``why`` completes "the agent's program stopped: …"."""

    why: str


Event = MessageReceived | ToolRequested | CommandFinished | HeldBeforeModel | ProcessExited


@dataclass(eq=False)
class CliProcess:
    """``held_after``: a call after which the CLI is stopped, see :class:`HeldBeforeModel`.
    ``tools_since``: when the first of the tools that run began (monotonic), ``None``: none runs."""

    sdk: Any
    sandbox: Sandbox
    launch: CliLaunch
    session_id: str
    limits: CliLimits
    course: Any = None
    """What the turn's runner keeps here while the turn waits for a person."""
    busy: bool = False
    """It was given something to do and has not come to its end."""
    held_after: str = ""
    tools_since: float | None = None
    allowed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._inbox: asyncio.Queue[Event] = asyncio.Queue(INBOX)
        self._gone = asyncio.Event()
        self._mark = secrets.token_hex(8)
        self._client: Any = None
        self.pipe: SandboxTransport = SandboxTransport(self._never, self._enqueue)

    async def _never(self) -> Any:
        raise AssertionError("not started")

    # ------------------------------------------------------------------ life

    @property
    def alive(self) -> bool:
        return (
            self._client is not None
            and not self._gone.is_set()
            and not self.pipe.torn
            and self.sandbox.alive
        )

    async def start(self, *, resume: bool) -> None:
        """Start the CLI. Raises ``TurnFailure``; leaves nothing."""
        command = self.launch.command(self.session_id, resume=resume)
        env = {**dict(self.launch.env), MARK: self._mark}
        self.pipe = SandboxTransport(
            lambda: self.sandbox.spawn(command, cwd=self.sandbox.workdir, env=env), self._enqueue
        )
        self._client = self.sdk.ClaudeSDKClient(self._options(), transport=self.pipe)
        connecting = asyncio.ensure_future(self._client.connect())
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait(
                {connecting, gone},
                timeout=self.limits.start,
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._check_started(connecting)
        except BaseException:
            await asyncio.shield(self._give_up(connecting))
            raise
        finally:
            gone.cancel()

    def _check_started(self, connecting: asyncio.Future[None]) -> None:
        if not connecting.done():
            raise self._could_not_start(self.pipe.failure or "it does not answer")
        error = connecting.exception()
        if error is None:
            return
        if isinstance(error, DomainError):
            raise error
        said = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise self._could_not_start(self.pipe.failure or said) from error

    def _could_not_start(self, why: str) -> TurnFailure:
        fix = unsupported_reason(self.sandbox.isolation.tier, ()) or INSTALL_AGAIN
        return could_not_start(why, self.pipe.stderr, fix)

    async def _give_up(self, connecting: asyncio.Future[None]) -> None:
        await self.pipe.kill()
        connecting.cancel()
        await asyncio.wait([connecting])
        await self.end()

    def _options(self) -> Any:
        match = self.sdk.HookMatcher
        return self.sdk.ClaudeAgentOptions(
            hooks={
                "PreToolUse": [
                    match(hooks=[self._before_tool], timeout=HOOK_PATIENCE, on_failure="block")
                ],
                "PostToolUse": [match("Bash", [self._after_tool], timeout=HOOK_PATIENCE)],
                "PostToolUseFailure": [match("Bash", [self._after_tool], timeout=HOOK_PATIENCE)],
                "UserPromptSubmit": [
                    match(hooks=[self._before_prompt], timeout=HOOK_PATIENCE, on_failure="block")
                ],
            },
            can_use_tool=self._may_use,
            verbatim_prompts=True,
        )

    async def end(self) -> None:
        """End the CLI; bounded. Processes that its tools left behind live on."""
        client, self._client = self._client, None
        if client is not None:
            await client.disconnect()
        else:
            await self.pipe.close()

    def tools_run(self, running: bool) -> None:
        """Whether any tool runs now."""
        if not running:
            self.tools_since = None
        elif self.tools_since is None:
            self.tools_since = time.monotonic()

    async def end_tools(self) -> None:
        """Kill the tools that run: the CLI does not end them any more. What was put into the
        background before lives on."""
        since, self.tools_since, pid = self.tools_since, None, self.pipe.pid
        if since is None or pid is None or not self.sandbox.alive:
            return
        if self.pipe.failure is None:
            await self.pipe.kill(signal.SIGSTOP)
            await kill_descendants(self.sandbox, pid)
        else:
            age = time.monotonic() - since
            await kill_descendants(self.sandbox, pid, younger_than=age, mark=self._mark)

    async def kill(self) -> None:
        await self.pipe.kill()
        await self.end()

    # ------------------------------------------------------------------ what it asks

    async def _before_tool(
        self, asked: Mapping[str, Any], tool_use_id: str | None, _context: Any
    ) -> HookOutput:
        ident = str(tool_use_id or asked.get("tool_use_id") or "")
        tool_input = asked.get("tool_input")
        call = ToolRequested(
            ident,
            str(asked.get("tool_name", "")),
            sanitize_value(tool_input) if isinstance(tool_input, Mapping) else {},
            str(asked["agent_id"]) if asked.get("agent_id") else None,
            asyncio.get_running_loop().create_future(),
        )
        await self._inbox.put(call)
        return await call.answer

    async def _after_tool(
        self, ran: Mapping[str, Any], tool_use_id: str | None, _context: Any
    ) -> HookOutput:
        """A command has run; the turn's runner hears of it if it was refused something."""
        refused = self.sandbox.network.drain_denied()
        if not refused:
            return {}
        name = str(ran.get("hook_event_name", ""))
        done = CommandFinished(
            str(tool_use_id or ran.get("tool_use_id") or ""),
            str(ran.get("tool_name", "")),
            name == "PostToolUse",
            output_of(ran),
            tuple(map(str, refused)),
            str(ran["agent_id"]) if ran.get("agent_id") else None,
            asyncio.get_running_loop().create_future(),
            name,
        )
        await self._inbox.put(done)
        return await done.answer

    async def _before_prompt(
        self, _asked: Mapping[str, Any], _id: str | None, _context: Any
    ) -> HookOutput:
        if self.held_after:
            await self._inbox.put(HeldBeforeModel())
            await self._gone.wait()
        if not self.busy:
            return {"decision": "block", "reason": BETWEEN_TURNS}
        return {}

    async def _may_use(self, _tool: str, tool_input: dict[str, Any], context: Any) -> Any:
        if getattr(context, "tool_use_id", None) in self.allowed:
            return self.sdk.PermissionResultAllow(updated_input=tool_input)
        return self.sdk.PermissionResultDeny(message=NOT_ALLOWED)

    # ------------------------------------------------------------------ what it is told

    async def say(self, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Give it a message of the user. Raises ``TurnFailure`` if it has ended."""

        async def prompt() -> AsyncIterator[dict[str, Any]]:
            yield {
                "type": "user",
                "message": {"role": "user", "content": list(blocks)},
                "parent_tool_use_id": None,
            }

        self.busy = True
        try:
            await self._client.query(prompt())
        except (BrokenPipeError, SandboxLost) as error:
            raise TurnFailure(
                f"The agent's program stopped: {self.pipe.failure or error}. What was done is "
                "kept: send the message again."
            ) from error

    async def interrupt(self, patience: float | None = None) -> bool:
        """Stop what it is doing, its tools included; whether it can be talked to again.

        ``patience``: seconds, where nobody waits for it as for an interrupt.
        """
        if not self.busy:
            return self.alive
        try:
            async with asyncio.timeout(self.limits.interrupt if patience is None else patience):
                await self._client.interrupt()
                while True:
                    event = await self._inbox.get()
                    if isinstance(event, ProcessExited):
                        return False
                    if isinstance(event, MessageReceived) and event.message.get("type") == "result":
                        self.busy = False
                        return self.alive
        except Exception:  # the SDK raises bare ones; whatever it was, it is not stopped
            return False

    # ------------------------------------------------------------------ the inbox

    @property
    def has_more(self) -> bool:
        return not self._inbox.empty()

    async def next(self) -> Event:
        return await self._inbox.get()

    def begin_turn(self) -> None:
        """Forget the last one; what was said since it ended concerns nobody."""
        self.allowed.clear()
        self.pipe.forget_stored()
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                self._inbox.get_nowait()

    async def _enqueue(self, message: dict[str, Any]) -> None:
        if message["type"] != "loopat_gone":
            await self._inbox.put(MessageReceived(message))
            return
        self._gone.set()
        await self._inbox.put(ProcessExited(self.pipe.failure or "it ended"))
