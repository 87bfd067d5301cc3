"""Permission requests of an agent, and which permission modes an agent can be held to.

A request goes before the loop's permission policy, then a person. The agent's own options decide
nothing: an allowed call gets its option "allow once", never "allow always". Remembering is done by
the loop's rules, so that ``plan`` and a withdrawn rule hold for every call.

An agent runs its tools itself, so the policy learns of a call only where the agent asks. A mode
that asks or denies is therefore accepted only for agents that are declared to ask (``asks`` in
``config.json``); for others it is refused before they have done anything. The sandbox restricts
what they do in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...context.acp_agents import SelectedAgent
from ...loops.errors import TurnFailure
from ...loops.ports.engine import PermissionDecision, PermissionMode, ToolKind, TurnHost
from ...loops.ports.sandbox import Sandbox
from ..tools.tools import inside_workdir
from .content_blocks import diffs_of
from .tool_call_state import ToolCallState, paths_of
from .tool_names import normalize_input, policy_kind, tool_name

UNRESTRICTED_MODES: tuple[PermissionMode, ...] = ("auto", "bypassPermissions")
"""The permission modes in which every tool runs, so that an agent need not ask."""
_RANK: dict[ToolKind, int] = {"read": 0, "edit": 1, "other": 2}


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """``call`` is the tool call as the agent describes it; ``options`` are its options as
    ``(id, name, kind)``."""

    call: Mapping[str, Any]
    options: tuple[tuple[str, str, str], ...]

    def option(self, *, allowed: bool) -> str | None:
        """The id of the option for this decision, once; ``None`` where the agent has none."""
        wanted = "allow_once" if allowed else "reject_once"
        return next((option_id for option_id, _, kind in self.options if kind == wanted), None)

    @property
    def offered(self) -> str:
        """The agent's options as a note for the person."""
        names = ", ".join(f"“{' '.join(name.split())[:60]}”" for _, name, _ in self.options[:8])
        return f"The agent offers {names}. Yours is for this call alone." if names else ""


@dataclass(frozen=True, slots=True)
class _RequestedTool:
    """What a permission request is about, as the policy and a person are shown it."""

    tool: str
    kind: ToolKind
    input: dict[str, Any]
    paths: list[str]
    title: str


def _requested_tool(call: ToolCallState, request: PermissionRequest) -> _RequestedTool:
    """A request of another kind than its call is about something that the call needs (a folder
    outside the workdir): it is shown, named and judged on its own, never as less than the call."""
    fields = request.call
    content = fields.get("content")
    raw_input = fields.get("rawInput")
    tool_input = normalize_input(
        raw_input if isinstance(raw_input, Mapping) else {}, paths_of(fields), diffs_of(content)
    )
    agent_kind = str(fields.get("kind") or call.kind)
    title = str(fields.get("title") or call.title)
    kind = max(policy_kind(agent_kind), policy_kind(call.kind), key=_RANK.__getitem__)
    paths = [*paths_of(fields), *(str(diff["path"]) for diff in diffs_of(content))]
    if agent_kind == call.kind:
        tool_input = {**call.input, **tool_input}
        paths += call.locations
        tool = call.name()
    else:
        tool = tool_name(agent_kind, title, tool_input)
    paths += [tool_input[k] for k in ("file_path", "path") if isinstance(tool_input.get(k), str)]
    return _RequestedTool(
        tool, kind, tool_input, list(dict.fromkeys(paths)), " ".join(title.split())[:200]
    )


async def decide_permission(
    call: ToolCallState, request: PermissionRequest, host: TurnHost, sandbox: Sandbox
) -> PermissionDecision:
    """Whether the announced ``call`` may run."""
    requested = _requested_tool(call, request)
    # A call may be asked about more than once; each request is a choice of its own.
    choice_id = call.id if call.requests == 1 else f"{call.id}#{call.requests}"
    inside = False
    if requested.kind == "edit" and requested.paths:
        inside = all([await inside_workdir(sandbox, path) for path in requested.paths])
    return await host.permission(
        choice_id,
        requested.tool,
        requested.input,
        kind=requested.kind,
        inside_workdir=inside,
        title=requested.title or requested.tool,
        display_name=requested.tool,
        reason=request.offered or None,
    )


def check_mode_supported(agent: SelectedAgent, mode: PermissionMode) -> None:
    """Raises ``TurnFailure`` where the mode needs an agent that asks, and this one does not."""
    if agent.asks or mode in UNRESTRICTED_MODES:
        return
    raise TurnFailure(
        f"The mode {mode} needs an agent that asks before it acts, and {agent.name!r} is not "
        'said to. Set it up to ask and write "asks": true for it in config.json, or send the '
        "message with the mode bypassPermissions: what it does then stays inside the sandbox."
    )
