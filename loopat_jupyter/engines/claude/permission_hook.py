"""May this call run? Every call of the CLI comes here, and nowhere else is one let through.

The policy, or a person, decides with the input that will run. The CLI's own permission modes
decide nothing: it runs in its strictest one, and what we allow is allowed there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ...loops.ports.engine import PermissionDecision, TurnHost
from ...loops.ports.sandbox import Sandbox
from ..agents.tool_call_tracker import TrackedCall
from ..tools.inputs import AskUserQuestionInput
from ..tools.questions import questions_of
from ..tools.tools import inside_workdir
from .cli_process import HookOutput, ToolRequested
from .tool_kinds import ASK, EDITS, kind_of, shown_input, title_of

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
    call: ToolRequested, entry: TrackedCall, sandbox: Sandbox, host: TurnHost
) -> HookOutput:
    """The answer to the CLI's hook. Raises ``TurnSuspended`` when a person has to be asked."""
    if call.tool == ASK:
        return await _question(call, entry, host)
    verdict = await _permission(call, entry, sandbox, host)
    return allow() if verdict.allowed else deny(verdict.denial)


async def _permission(
    call: ToolRequested, entry: TrackedCall, sandbox: Sandbox, host: TurnHost
) -> PermissionDecision:
    inside = False
    if call.tool in EDITS:
        path = call.input.get(EDITS[call.tool])
        inside = isinstance(path, str) and await inside_workdir(sandbox, path)
    shown = shown_input(entry.sent, call.input)
    return await host.permission(
        entry.name,
        call.tool,
        shown,
        kind=kind_of(call.tool),
        inside_workdir=inside,
        title=title_of(call.tool, shown),
        display_name=call.tool,
    )


async def _question(call: ToolRequested, entry: TrackedCall, host: TurnHost) -> HookOutput:
    try:
        asked = AskUserQuestionInput.model_validate(dict(call.input))
    except ValidationError:
        return deny("The questions could not be asked: each needs a text and two options at least.")
    questions = questions_of(asked)
    answers = await host.question(entry.name, questions)
    said = {one.question: _value(answers.get(one.id, "(no answer)")) for one in questions}
    return allow(updatedInput={**call.input, "answers": said})


def _value(answer: str | list[str]) -> str:
    return answer if isinstance(answer, str) else ", ".join(answer)


def refusal(call: ToolRequested, shown: Mapping[str, Any] | None) -> str | None:
    """Why a call cannot be run here at all, whoever would allow it.

    ``shown``: what the journal says about a call that is asked again. The CLI has it from its
    session file, which the agent may have changed since a person saw it.
    """
    if shown is not None and (shown["tool"], shown["input"]) != (call.tool, dict(call.input)):
        return CHANGED
    wants: Mapping[str, Any] = call.input
    if call.tool == "Bash" and wants.get("run_in_background"):
        return NO_BACKGROUND
    return None
