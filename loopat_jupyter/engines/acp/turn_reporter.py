"""From an agent's session updates to the events of the loop's turn.

Every announced tool call gets exactly one result. Updates of other kinds (plans, commands, modes)
are passed on as raw messages only.
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
from .permission import UNRESTRICTED_MODES, PermissionRequest, decide_permission
from .tool_call_state import ToolCallState, event_call_id
from .tool_names import policy_kind


class ModeViolation(TurnFailure):
    """The agent did without asking what the permission mode does not allow; it must be ended."""


class TurnReporter:
    """Reports one prompt to the turn's host.

    ``cancelled_request``: a permission request got the response "cancelled", since the agent
    offered no option that fits the decision.
    """

    def __init__(
        self,
        agent: str,
        mode: PermissionMode,
        host: TurnHost,
        sandbox: Sandbox,
        abandoned_calls: frozenset[str],
    ) -> None:
        """``abandoned_calls``: the agent's ids of calls of earlier prompts, whose updates are
        ignored."""
        self._agent = agent
        self.mode = mode
        self.host = host
        self._sandbox = sandbox
        self._abandoned_calls = abandoned_calls
        self._calls: dict[str, ToolCallState] = {}
        self._form_count = 0
        self.cancelled_request = False
        self._text = SurrogateJoiner()
        self._thinking = SurrogateJoiner()

    @property
    def busy(self) -> bool:
        """Whether a tool may be running, or about to run."""
        return any(not call.ended for call in self._calls.values())

    @property
    def tool_is_running(self) -> bool:
        """Whether a tool that a permission request was allowed for may be running."""
        return any(call.granted and not call.ended for call in self._calls.values())

    @property
    def unfinished(self) -> frozenset[str]:
        """The agent's ids of the calls whose end it has not reported."""
        return frozenset(
            agent_id
            for agent_id, call in self._calls.items()
            if call.status not in ("completed", "failed")
        )

    async def report_update(self, params: Mapping[str, Any]) -> None:
        """``params`` are those of a ``session/update``. Raises :class:`ModeViolation`."""
        update = params.get("update")
        if not isinstance(update, Mapping):
            return
        kind = update.get("sessionUpdate")
        if kind == "agent_message_chunk":
            await self._announce_all()
            await self.host.text(self._text.add(block_text(update.get("content"))))
        elif kind == "agent_thought_chunk":
            await self._announce_all()
            await self.host.thinking(self._thinking.add(block_text(update.get("content"))))
        elif kind in ("tool_call", "tool_call_update"):
            await self._update_call(update)
        await self.host.sdk_message(params)

    # ------------------------------------------------------------------ tool calls

    def _find_call(self, update: Mapping[str, Any]) -> ToolCallState | None:
        agent_id = update.get("toolCallId")
        if not isinstance(agent_id, str) or agent_id in self._abandoned_calls:
            return None
        if agent_id not in self._calls:
            self._calls[agent_id] = ToolCallState(event_call_id(agent_id, len(self._calls) + 1))
        return self._calls[agent_id]

    async def _update_call(self, update: Mapping[str, Any]) -> None:
        call = self._find_call(update)
        if call is None or call.ended:
            return
        call.merge(update)
        if call.status != "pending":
            await self._announce(call)
        if call.status in ("completed", "failed"):
            await self._end_call(call)

    async def _announce(self, call: ToolCallState) -> None:
        if not call.announced:
            await self.host.tool_call(call.id, call.name(), call.input)

    async def _announce_all(self) -> None:
        """Announce pending calls before text or a form, so that the events keep their order."""
        for call in self._calls.values():
            await self._announce(call)

    async def _end_call(self, call: ToolCallState) -> None:
        ok, text = call.outcome()
        violation = call.status == "completed" and not await self._was_permitted(call)
        call.end()
        await self.host.tool_result(call.id, ok, text)
        if violation:
            raise ModeViolation(
                f"The agent {self._agent!r} ran {call.tool!r} without asking, which the mode "
                f"{self.mode} does not allow, so it was ended. Set the agent up to ask before "
                "each tool, or use the mode bypassPermissions."
            )

    async def _was_permitted(self, call: ToolCallState) -> bool:
        """Whether a call that has run was allowed to run."""
        if self.mode in UNRESTRICTED_MODES or call.asked_itself or call.kind == "think":
            return True
        kind = policy_kind(call.kind)
        if kind == "edit" and self.mode in ("acceptEdits", "dontAsk"):
            paths = [*call.locations, *(str(diff["path"]) for diff in diffs_of(call.content))]
            return bool(paths) and all([await inside_workdir(self._sandbox, p) for p in paths])
        return kind == "read"

    async def close(self) -> None:
        """The prompt is over: give every open call its result."""
        await self.host.text(self._text.end())
        await self.host.thinking(self._thinking.end())
        for call in self._calls.values():
            await self._announce(call)
            if not call.ended:
                ok, text = call.outcome()
                call.end()
                await self.host.tool_result(call.id, ok, text)

    # ------------------------------------------------------------------ permission requests

    async def announce_permission(self, request: PermissionRequest) -> ToolCallState | None:
        """Announce the call that ``request`` is about; ``None`` where it is over already."""
        call = self._find_call(request.call)
        if call is None or call.ended:
            return None
        call.merge_request(request.call)
        await self._announce(call)
        return call

    async def decide_permission(
        self, call: ToolCallState, request: PermissionRequest
    ) -> str | None:
        """The id of the option to be selected; ``None``: cancelled."""
        decision = await decide_permission(call, request, self.host, self._sandbox)
        if decision.allowed:
            call.granted = True
        else:
            call.denied = decision.denial
        option = request.option(allowed=decision.allowed)
        self.cancelled_request = self.cancelled_request or option is None
        return option

    # ------------------------------------------------------------------ forms

    async def announce_form(self, form: Form) -> str:
        """Announce what came before ``form``; returns the id under which it is asked."""
        await self._announce_all()
        self._form_count += 1
        call = None if form.call is None else self._calls.get(form.call)
        return f"{'form' if call is None else call.id}?{self._form_count}"

    async def fill_form(self, question_id: str, form: Form) -> Mapping[str, Any]:
        """Ask the person; returns the form's content."""
        return form.content(await self.host.question(question_id, form.questions))
