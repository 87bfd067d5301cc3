"""From the agent's updates to what is stored and shown of its turn.

Every announced call gets exactly one result. Updates of other kinds (plans, commands, modes) are
shown raw only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...loops.errors import TurnFailure
from ...loops.ports.engine import PermissionMode, TurnHost
from ...loops.ports.sandbox import Sandbox
from ..models.sanitize import SurrogateJoiner
from ..tools.tools import inside_workdir
from .content_blocks import block_text, diffs_of
from .elicitation import Form
from .permission import PermissionRequest, decide_permission
from .tool_call_state import ToolCallState, call_id
from .tool_names import policy_kind

UNASKED: tuple[PermissionMode, ...] = ("auto", "bypassPermissions")
"""The modes in which everything runs, so that nobody need be asked."""


class ModeViolation(TurnFailure):
    """The agent did unasked what the turn's mode does not allow; it must be ended at once."""


class TurnReporter:
    """One prompt. ``retired``: ids of calls of earlier prompts, of which nothing is shown.
    ``gave_up``: a request was answered with "cancelled", since no option fitted."""

    def __init__(
        self,
        agent: str,
        mode: PermissionMode,
        host: TurnHost,
        sandbox: Sandbox,
        retired: frozenset[str],
    ) -> None:
        self._agent = agent
        self.mode = mode
        self.host = host
        self._sandbox = sandbox
        self._retired = retired
        self._calls: dict[str, ToolCallState] = {}
        self._forms = 0
        self.gave_up = False
        self._texts = SurrogateJoiner()
        self._thoughts = SurrogateJoiner()

    @property
    def busy(self) -> bool:
        """Whether a tool seems to be running."""
        return any(not call.ended for call in self._calls.values())

    @property
    def acting(self) -> bool:
        """Whether a tool that the agent was allowed to use may be running."""
        return any(call.granted and not call.ended for call in self._calls.values())

    @property
    def unfinished(self) -> frozenset[str]:
        """The agent's ids of the calls whose end it did not tell."""
        return frozenset(
            sent for sent, call in self._calls.items() if call.status not in ("completed", "failed")
        )

    async def update(self, params: Mapping[str, Any]) -> None:
        update = params.get("update")
        if not isinstance(update, Mapping):
            return
        kind = update.get("sessionUpdate")
        if kind == "agent_message_chunk":
            await self._announce_all()
            await self.host.text(self._texts.add(block_text(update.get("content"))))
        elif kind == "agent_thought_chunk":
            await self._announce_all()
            await self.host.thinking(self._thoughts.add(block_text(update.get("content"))))
        elif kind in ("tool_call", "tool_call_update"):
            await self._tool(update)
        await self.host.sdk_message(params)

    # ------------------------------------------------------------------ tool calls

    def _call(self, update: Mapping[str, Any]) -> ToolCallState | None:
        sent = update.get("toolCallId")
        if not isinstance(sent, str) or sent in self._retired:
            return None
        if sent not in self._calls:
            self._calls[sent] = ToolCallState(call_id(sent, len(self._calls) + 1))
        return self._calls[sent]

    async def _tool(self, update: Mapping[str, Any]) -> None:
        call = self._call(update)
        if call is None or call.ended:
            return
        call.merge(update)
        if call.status != "pending":
            await self._announce(call)
        if call.status in ("completed", "failed"):
            await self._end(call)

    async def _announce(self, call: ToolCallState) -> None:
        if not call.announced:
            await self.host.tool_call(call.id, call.name(), call.input)

    async def _announce_all(self) -> None:
        """Before anything else is said, so that the order of things stays."""
        for call in self._calls.values():
            await self._announce(call)

    async def _end(self, call: ToolCallState) -> None:
        ok, text = call.outcome()
        unheld = call.status == "completed" and not await self._was_held(call)
        call.end()
        await self.host.tool_result(call.id, ok, text)
        if unheld:
            raise ModeViolation(
                f"The agent {self._agent!r} ran {call.tool!r} without asking, which the mode "
                f"{self.mode} does not allow, so it was ended. Set the agent up to ask before "
                "each tool, or use the mode bypassPermissions."
            )

    async def _was_held(self, call: ToolCallState) -> bool:
        """Whether what has run was allowed to run."""
        if self.mode in UNASKED or call.asked_itself or call.kind == "think":
            return True
        kind = policy_kind(call.kind)
        if kind == "edit" and self.mode in ("acceptEdits", "dontAsk"):
            paths = [*call.locations, *(str(one["path"]) for one in diffs_of(call.content))]
            return bool(paths) and all([await inside_workdir(self._sandbox, p) for p in paths])
        return kind == "read"

    async def close(self) -> None:
        """The prompt is over: what is still open gets its result."""
        await self.host.text(self._texts.end())
        await self.host.thinking(self._thoughts.end())
        for call in self._calls.values():
            await self._announce(call)
            if not call.ended:
                ok, text = call.outcome()
                call.end()
                await self.host.tool_result(call.id, ok, text)

    # ------------------------------------------------------------------ permissions

    async def announce(self, ask: PermissionRequest) -> ToolCallState | None:
        """The call that ``ask`` is about, announced; to be called in the order of the updates."""
        call = self._call(ask.call)
        if call is None or call.ended:
            return None
        call.ask(ask.call)
        await self._announce(call)
        return call

    async def decide(self, call: ToolCallState, ask: PermissionRequest) -> str | None:
        """The option that is to be chosen; ``None``: cancelled."""
        verdict = await decide_permission(call, ask, self.host, self._sandbox)
        if verdict.allowed:
            call.granted = True
        else:
            call.denied = verdict.denial
        option = ask.option(allowed=verdict.allowed)
        self.gave_up = self.gave_up or option is None
        return option

    # ------------------------------------------------------------------ questions

    async def expect(self, form: Form) -> str:
        """Show what was said before ``form``; the id under which it is asked."""
        await self._announce_all()
        self._forms += 1
        call = None if form.call is None else self._calls.get(form.call)
        return f"{'form' if call is None else call.id}?{self._forms}"

    async def fill(self, asked_id: str, form: Form) -> Mapping[str, Any]:
        """The form's content, in the person's words."""
        return form.content(await self.host.question(asked_id, form.questions))
