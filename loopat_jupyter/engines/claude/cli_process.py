"""The CLI's process of one loop: started in the sandbox, kept between turns and while one waits.

The SDK speaks the control protocol. What the CLI asks through its hooks and what it writes are put
into one queue of events, in order, from which the turn's runner takes them. A hook waits for its
output as long as this object lives, also while no turn runs.

The hooks fail closed: a call that nobody allowed is denied, by the CLI when a hook gives no output,
and by :meth:`CliProcess._can_use_tool`, which the CLI asks whenever its own rules would prompt.
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
from ...loops.text import sanitize_text
from ..agents.process_cleanup import MARK, kill_descendants
from ..models.sanitize import sanitize_value
from ..tools.outcome import truncate_middle
from . import unsupported_reason
from .errors import INSTALL_AGAIN, start_failed
from .launch import CliLaunch
from .transport import EXITED, SandboxTransport

QUEUE_SIZE = 256
HOOK_TIMEOUT = 2_000_000.0
"""Seconds the CLI waits for a hook's output. Its timers cannot run longer than 2^31 ms."""
NOT_ALLOWED = "User denied permission: nobody has allowed this call."
BETWEEN_TURNS = "Nothing may begin between two turns."

HookOutput = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CliLimits:
    """Seconds. ``silence``: how long the CLI may write nothing while no tool runs."""

    start: float = 30.0
    silence: float = 900.0
    interrupt: float = 0.1


@dataclass(eq=False, slots=True)
class ToolRequested:
    """The CLI is about to run a tool; its hook waits for ``output``."""

    id: str
    tool: str
    input: Mapping[str, Any]
    agent_id: str | None
    output: asyncio.Future[HookOutput]


@dataclass(eq=False, slots=True)
class CommandFinished:
    """A command has run and was refused destinations. Its result goes to the model when its hook,
    named ``hook``, has got ``hook_output``."""

    id: str
    tool: str
    ok: bool
    output: str
    denied_hosts: tuple[str, ...]
    agent_id: str | None
    hook: str
    hook_output: asyncio.Future[HookOutput]


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message of the CLI that is not of the control protocol."""

    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HeldBeforeModel:
    """The CLI has run the call :attr:`CliProcess.stop_after_call` and is held before it calls its
    model."""


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """The CLI has ended; ``reason`` completes "the agent's program stopped: …"."""

    reason: str


Event = MessageReceived | ToolRequested | CommandFinished | HeldBeforeModel | ProcessExited


@dataclass(eq=False)
class CliProcess:
    """One CLI. ``sdk`` is the module ``claude_agent_sdk``."""

    sdk: Any
    sandbox: Sandbox
    launch: CliLaunch
    session_id: str
    limits: CliLimits
    turn_state: Any = None
    """The :class:`.turn_runner.TurnState` of a turn that waits for a person, kept by its runner."""
    busy: bool = False
    """It was given a message and has not written the turn's result."""
    stop_after_call: str = ""
    """The call after which the CLI is to be held, see :class:`HeldBeforeModel`."""
    tools_started: float | None = None
    """When the first of the running tools was started (monotonic); ``None`` while none runs."""
    allowed: set[str] = field(default_factory=set)
    """Ids of the calls that were allowed in this turn."""

    def __post_init__(self) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue(QUEUE_SIZE)
        self._exited = asyncio.Event()
        self._mark = secrets.token_hex(8)
        self._client: Any = None
        self.transport: SandboxTransport = SandboxTransport(self._not_started, self._enqueue)

    async def _not_started(self) -> Any:
        raise AssertionError("not started")

    # ------------------------------------------------------------------ start and end

    @property
    def alive(self) -> bool:
        return (
            self._client is not None
            and not self._exited.is_set()
            and not self.transport.broken
            and self.sandbox.alive
        )

    async def start(self, *, resume: bool) -> None:
        """Start the CLI on a new session, or with ``resume`` on an existing one.

        Raises:
            TurnFailure: it could not be started; nothing is left running.
        """
        command = self.launch.command(self.session_id, resume=resume)
        env = {**dict(self.launch.env), MARK: self._mark}
        self.transport = SandboxTransport(
            lambda: self.sandbox.spawn(command, cwd=self.sandbox.workdir, env=env), self._enqueue
        )
        self._client = self.sdk.ClaudeSDKClient(self._options(), transport=self.transport)
        connecting = asyncio.ensure_future(self._client.connect())
        exited = asyncio.ensure_future(self._exited.wait())
        try:
            await asyncio.wait(
                {connecting, exited},
                timeout=self.limits.start,
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._check_started(connecting)
        except BaseException:
            await asyncio.shield(self._abort_start(connecting))
            raise
        finally:
            exited.cancel()

    def _check_started(self, connecting: asyncio.Future[None]) -> None:
        if not connecting.done():
            raise self._start_failure(self.transport.failure or "it does not answer")
        error = connecting.exception()
        if error is None:
            return
        if isinstance(error, DomainError):
            raise error
        text = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise self._start_failure(self.transport.failure or text) from error

    def _start_failure(self, reason: str) -> TurnFailure:
        fix = unsupported_reason(self.sandbox.isolation.tier, ()) or INSTALL_AGAIN
        return start_failed(reason, self.transport.error_line, fix)

    async def _abort_start(self, connecting: asyncio.Future[None]) -> None:
        await self.transport.kill()
        connecting.cancel()
        await asyncio.wait([connecting])
        await self.end()

    def _options(self) -> Any:
        match = self.sdk.HookMatcher
        timeout = HOOK_TIMEOUT
        return self.sdk.ClaudeAgentOptions(
            hooks={
                "PreToolUse": [
                    match(hooks=[self._pre_tool_use], timeout=timeout, on_failure="block")
                ],
                "PostToolUse": [match("Bash", [self._post_tool_use], timeout=timeout)],
                "PostToolUseFailure": [match("Bash", [self._post_tool_use], timeout=timeout)],
                "UserPromptSubmit": [
                    match(hooks=[self._user_prompt_submit], timeout=timeout, on_failure="block")
                ],
            },
            can_use_tool=self._can_use_tool,
            verbatim_prompts=True,
        )

    async def end(self) -> None:
        """Terminate the CLI; bounded in time. Processes that its tools left behind live on."""
        client, self._client = self._client, None
        if client is not None:
            await client.disconnect()
        else:
            await self.transport.close()

    async def kill(self) -> None:
        await self.transport.kill()
        await self.end()

    def note_tools(self, running: bool) -> None:
        """Note whether any tool runs now."""
        if not running:
            self.tools_started = None
        elif self.tools_started is None:
            self.tools_started = time.monotonic()

    async def kill_tools(self) -> None:
        """Kill the tools that run, where the CLI does not end them any more. What was put into
        the background before lives on."""
        started, self.tools_started, pid = self.tools_started, None, self.transport.pid
        if started is None or pid is None or not self.sandbox.alive:
            return
        if self.transport.failure is None:
            # Stopped first: it must not start anything while its descendants are killed.
            await self.transport.kill(signal.SIGSTOP)
            await kill_descendants(self.sandbox, pid)
        else:
            age = time.monotonic() - started
            await kill_descendants(self.sandbox, pid, younger_than=age, mark=self._mark)

    # ------------------------------------------------------------------ the CLI's hooks

    async def _pre_tool_use(
        self, hook_input: Mapping[str, Any], tool_use_id: str | None, _context: Any
    ) -> HookOutput:
        tool_input = hook_input.get("tool_input")
        request = ToolRequested(
            str(tool_use_id or hook_input.get("tool_use_id") or ""),
            str(hook_input.get("tool_name", "")),
            sanitize_value(tool_input) if isinstance(tool_input, Mapping) else {},
            str(hook_input["agent_id"]) if hook_input.get("agent_id") else None,
            asyncio.get_running_loop().create_future(),
        )
        await self._events.put(request)
        return await request.output

    async def _post_tool_use(
        self, hook_input: Mapping[str, Any], tool_use_id: str | None, _context: Any
    ) -> HookOutput:
        """Report a command that was refused destinations; let all others pass at once."""
        denied = self.sandbox.network.drain_denied()
        if not denied:
            return {}
        hook = str(hook_input.get("hook_event_name", ""))
        command = CommandFinished(
            str(tool_use_id or hook_input.get("tool_use_id") or ""),
            str(hook_input.get("tool_name", "")),
            hook == "PostToolUse",
            _command_output(hook_input),
            tuple(map(str, denied)),
            str(hook_input["agent_id"]) if hook_input.get("agent_id") else None,
            hook,
            asyncio.get_running_loop().create_future(),
        )
        await self._events.put(command)
        return await command.hook_output

    async def _user_prompt_submit(
        self, _input: Mapping[str, Any], _id: str | None, _context: Any
    ) -> HookOutput:
        """Called before a prompt goes to the model; in a resumed session that is after the call
        which it repeats."""
        if self.stop_after_call:
            await self._events.put(HeldBeforeModel())
            await self._exited.wait()
        if not self.busy:
            return {"decision": "block", "reason": BETWEEN_TURNS}
        return {}

    async def _can_use_tool(self, _tool: str, tool_input: dict[str, Any], context: Any) -> Any:
        if getattr(context, "tool_use_id", None) in self.allowed:
            return self.sdk.PermissionResultAllow(updated_input=tool_input)
        return self.sdk.PermissionResultDeny(message=NOT_ALLOWED)

    # ------------------------------------------------------------------ what it is sent

    async def send_message(self, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Send content blocks as a message of the user.

        Raises:
            TurnFailure: the CLI has ended.
        """

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
                f"The agent's program stopped: {self.transport.failure or error}. What was done is "
                "kept: send the message again."
            ) from error

    async def interrupt(self, timeout: float | None = None) -> bool:
        """Stop the running turn and its tools; returns whether the CLI can be used again.

        ``timeout``: seconds, where it may take longer than the interrupt of a person.
        """
        if not self.busy:
            return self.alive
        try:
            async with asyncio.timeout(self.limits.interrupt if timeout is None else timeout):
                await self._client.interrupt()
                while True:
                    event = await self._events.get()
                    if isinstance(event, ProcessExited):
                        return False
                    if isinstance(event, MessageReceived) and event.message.get("type") == "result":
                        self.busy = False
                        return self.alive
        except Exception:  # the SDK raises bare ones; whatever it was, the turn is not stopped
            return False

    # ------------------------------------------------------------------ events

    @property
    def has_events(self) -> bool:
        return not self._events.empty()

    async def next_event(self) -> Event:
        return await self._events.get()

    def reset_for_turn(self) -> None:
        """Forget the last turn, and what was written since it ended."""
        self.allowed.clear()
        self.transport.forget_stored()
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                self._events.get_nowait()

    async def _enqueue(self, message: dict[str, Any]) -> None:
        if message["type"] != EXITED:
            await self._events.put(MessageReceived(message))
            return
        self._exited.set()
        await self._events.put(ProcessExited(self.transport.failure or "it ended"))


def _command_output(hook_input: Mapping[str, Any]) -> str:
    """The output in the input of a hook that is called after a command."""
    response = hook_input.get("tool_response", hook_input.get("error"))
    if isinstance(response, Mapping):
        parts = [response.get("stdout"), response.get("stderr")]
        response = "\n".join(part for part in parts if isinstance(part, str) and part)
    text = sanitize_text(response if isinstance(response, str) else "")
    return truncate_middle(text) or "(no output)"
