"""The output of the CLI's PreToolUse hook: whether a call may run.

Every call of the CLI comes here, and nowhere else is one allowed. The permission policy, or a
person, decides with the input that will run. The CLI's own permission modes decide nothing: it runs
in its strictest one, and a call that is allowed here is allowed there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ...loops.ports.engine import PermissionDecision, TurnHost
from ...loops.ports.sandbox import Sandbox
from ..tools.inputs import AskUserQuestionInput
from ..tools.questions import questions_of
from ..tools.tools import inside_workdir
from .cli_process import HookOutput, ToolRequested
from .tool_call_tracker import TrackedCall
from .tool_kinds import ASK, EDITS, kind_of, reviewed_input, title_of

NO_BACKGROUND = (
    "Nothing was run: there are no background tasks here. Start it with `&` and its output "
    "redirected to a file; it lives on after the turn."
)
CHANGED = (
    "User denied permission: this is not the call that the user was asked about; its record was "
    "changed meanwhile."
)


def allow(**more: Any) -> HookOutput:
    return _output("allow", **more)


def deny(reason: str) -> HookOutput:
    return _output("deny", permissionDecisionReason=reason)


def _output(decision: str, **more: Any) -> HookOutput:
    specific = {"hookEventName": "PreToolUse", "permissionDecision": decision, **more}
    return {"hookSpecificOutput": specific}


def is_allowed(output: HookOutput) -> bool:
    return bool(output["hookSpecificOutput"]["permissionDecision"] == "allow")


async def decide_permission(
    request: ToolRequested, call: TrackedCall, sandbox: Sandbox, host: TurnHost
) -> HookOutput:
    """The hook's output. Raises ``TurnSuspended`` when a person must be asked first."""
    if request.tool == ASK:
        return await _ask_questions(request, call, host)
    decision = await _permission(request, call, sandbox, host)
    return allow() if decision.allowed else deny(decision.denial)


async def _permission(
    request: ToolRequested, call: TrackedCall, sandbox: Sandbox, host: TurnHost
) -> PermissionDecision:
    inside = False
    if request.tool in EDITS:
        path = request.input.get(EDITS[request.tool])
        inside = isinstance(path, str) and await inside_workdir(sandbox, path)
    reviewed = reviewed_input(call.input, request.input)
    return await host.permission(
        call.event_id,
        request.tool,
        reviewed,
        kind=kind_of(request.tool),
        inside_workdir=inside,
        title=title_of(request.tool, reviewed),
        display_name=request.tool,
    )


async def _ask_questions(request: ToolRequested, call: TrackedCall, host: TurnHost) -> HookOutput:
    try:
        tool_input = AskUserQuestionInput.model_validate(dict(request.input))
    except ValidationError:
        return deny("The questions could not be asked: each needs a text and two options at least.")
    questions = questions_of(tool_input)
    answers = await host.question(call.event_id, questions)
    by_text = {item.question: _joined(answers.get(item.id, "(no answer)")) for item in questions}
    return allow(updatedInput={**request.input, "answers": by_text})


def _joined(answer: str | list[str]) -> str:
    return answer if isinstance(answer, str) else ", ".join(answer)


def denial_reason(request: ToolRequested, repeated: Mapping[str, Any] | None) -> str | None:
    """Why a call cannot run at all, whoever would allow it; ``None`` where it can.

    ``repeated``: the journal's entry of a call that a new CLI asks about again. The CLI has the
    call from its session file, which the agent may have changed since a person saw it.
    """
    if repeated is not None and (repeated["tool"], repeated["input"]) != (
        request.tool,
        dict(request.input),
    ):
        return CHANGED
    if request.tool == "Bash" and request.input.get("run_in_background"):
        return NO_BACKGROUND
    return None
