"""What the agent asks before it acts: brought before the permission policy, then a person.

The agent's own options decide nothing. Allowed is its "once" and never its "always": remembering
is ours, so that ``plan`` and a withdrawn rule mean what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...loops.ports.engine import PermissionDecision, ToolKind, TurnHost
from ...loops.ports.sandbox import Sandbox
from ..tools.tools import inside_workdir
from .content_blocks import diffs_of
from .tool_call_state import ToolCallState, paths_of
from .tool_names import normalize_input, policy_kind, tool_name

_RANK: dict[ToolKind, int] = {"read": 0, "edit": 1, "other": 2}


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """A permission request: the call as the agent describes it, its options as (id, name, kind)."""

    call: Mapping[str, Any]
    options: tuple[tuple[str, str, str], ...]

    def option(self, *, allowed: bool) -> str | None:
        """The id of the agent's option that says just that, ``None`` where it offers none."""
        wanted = "allow_once" if allowed else "reject_once"
        return next((one for one, _, kind in self.options if kind == wanted), None)

    @property
    def offered(self) -> str:
        names = ", ".join(f"“{' '.join(name.split())[:60]}”" for _, name, _ in self.options[:8])
        return f"The agent offers {names}. Yours is for this call alone." if names else ""


@dataclass(frozen=True, slots=True)
class _ToolOfRequest:
    tool: str
    kind: ToolKind
    input: dict[str, Any]
    paths: list[str]
    title: str


def _asked(call: ToolCallState, ask: PermissionRequest) -> _ToolOfRequest:
    """What would run. Where the request is about something else than the call it belongs to
    (a folder that the call will use), it is shown, named and judged on its own."""
    sent = ask.call
    content = sent.get("content")
    raw = sent.get("rawInput")
    given = normalize_input(
        raw if isinstance(raw, Mapping) else {}, paths_of(sent), diffs_of(content)
    )
    said = str(sent.get("kind") or call.kind)
    title = str(sent.get("title") or call.title)
    kind = max(policy_kind(said), policy_kind(call.kind), key=_RANK.__getitem__)
    paths = [*paths_of(sent), *(str(change["path"]) for change in diffs_of(content))]
    if said == call.kind:
        given = {**call.input, **given}
        paths += call.locations
        tool = call.name()
    else:
        tool = tool_name(said, title, given)
    paths += [given[key] for key in ("file_path", "path") if isinstance(given.get(key), str)]
    return _ToolOfRequest(
        tool, kind, given, list(dict.fromkeys(paths)), " ".join(title.split())[:200]
    )


async def decide_permission(
    call: ToolCallState, ask: PermissionRequest, host: TurnHost, sandbox: Sandbox
) -> PermissionDecision:
    """Whether the announced ``call`` may run."""
    asked = _asked(call, ask)
    # A call may be asked about more than once; each question is a choice of its own.
    asked_id = call.id if call.asked == 1 else f"{call.id}#{call.asked}"
    inside = False
    if asked.kind == "edit" and asked.paths:
        inside = all([await inside_workdir(sandbox, path) for path in asked.paths])
    return await host.permission(
        asked_id,
        asked.tool,
        asked.input,
        kind=asked.kind,
        inside_workdir=inside,
        title=asked.title or asked.tool,
        display_name=asked.tool,
        reason=ask.offered or None,
    )
