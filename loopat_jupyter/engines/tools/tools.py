"""The tools of the engine ``builtin``, run in the loop's sandbox.

A tool never raises for what its call got wrong: that is a :class:`ToolOutcome` with ``ok`` false,
which the agent reads. It raises only for a sandbox that ended
(:class:`~loopat_jupyter.loops.errors.SandboxLost`), for a turn that must be suspended, and when it
is cancelled. Whether a call may run at all is decided in :mod:`..builtin.tool_calls`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from ...loops.ports.engine import ToolKind
from ...loops.ports.sandbox import CommandResult, FileError, Sandbox
from ..models.port import ToolSpec
from .inputs import (
    AskUserQuestionInput,
    BashInput,
    EditInput,
    GlobInput,
    GrepInput,
    ReadInput,
    ToolInput,
    WriteInput,
)
from .outcome import ToolLimits, ToolOutcome, truncate_middle

In = TypeVar("In", bound=ToolInput)
GREP_LIMIT, GREP_LIMIT_MAX = 500, 5000


class InvalidInput(Exception):
    """The model's input does not fit the tool; the message is for the model."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool runs with: the loop's sandbox, the limits, and whether it is confined to the
    workdir."""

    sandbox: Callable[[], Awaitable[Sandbox]]
    limits: ToolLimits
    confined: bool = False


@dataclass(frozen=True, slots=True)
class Tool(Generic[In]):
    """One tool. Without ``run`` it is a question to the person; see :mod:`.questions`."""

    name: str
    description: str
    input: type[In]
    kind: ToolKind
    run: Callable[[In, ToolContext], Awaitable[ToolOutcome]] | None
    title: Callable[[In], str]

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, self.description, self.input.json_schema())

    def parse(self, model_input: Mapping[str, Any] | str) -> In:
        """The validated input. Raises :class:`InvalidInput`."""
        if isinstance(model_input, str):
            raise InvalidInput(
                f"The input of {self.name} is not a valid JSON object, so nothing was run. "
                "Call the tool again with one."
            )
        try:
            return self.input.model_validate(dict(model_input))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc']) or 'input'}: {item['msg']}"
                for item in error.errors(include_input=False, include_url=False)
            )
            raise InvalidInput(
                f"The input of {self.name} is not valid, so nothing was run: {problems}"
            ) from None


async def _bash(tool_input: BashInput, context: ToolContext) -> ToolOutcome:
    sandbox = await context.sandbox()
    background = bool(tool_input.run_in_background)
    limits = context.limits
    seconds = tool_input.seconds(limits.bash_timeout, limits.bash_timeout_max)
    done = await sandbox.run(tool_input.command, timeout=seconds, background=background)
    # Invalid bytes become three each (U+FFFD) after the sandbox has applied its limit.
    output = truncate_middle(done.output, limits.output + 1024)
    outcome = _bash_outcome(tool_input, replace(done, output=output), seconds)
    return replace(outcome, refused=tuple(map(str, sandbox.network.drain_denied())))


def _bash_outcome(tool_input: BashInput, done: CommandResult, seconds: float) -> ToolOutcome:
    lines = [done.output.rstrip("\n")] if done.output.strip("\n") else []
    if done.timed_out:
        lines.append(f"Timed out after {seconds:g} s; the command was killed.")
    elif tool_input.run_in_background:
        lines.append(f"Runs in the background as pid {done.background_pid}.")
        if done.output_file:
            lines.append(f"Its output goes to {done.output_file}")
    elif done.exit_code:
        lines.append(f"exit code {done.exit_code}")
    ok = not done.timed_out and not done.exit_code
    return ToolOutcome(ok, "\n".join(lines) or "(no output)")


async def _read(tool_input: ReadInput, context: ToolContext) -> ToolOutcome:
    sandbox = await context.sandbox()
    first, limit = max(tool_input.offset or 1, 1), tool_input.limit or 2000
    found = await sandbox.file("read", path=tool_input.file_path, offset=first, limit=limit)
    lines: list[str] = found["lines"]
    if not lines:
        total = found["total_lines"]
        return ToolOutcome(True, f"(no lines from {first} on; the file has {total} lines)")
    text = "\n".join(f"{number:>6}\t{line}" for number, line in enumerate(lines, found["start"]))
    if found["truncated"]:
        shown = f"{found['start']} to {found['start'] + len(lines) - 1} of {found['total_lines']}"
        text += f"\n(lines {shown}; read on with offset and limit)"
    if "found_as" in found:
        text = (
            f"(There is no {tool_input.file_path!r}; this is {found['found_as']!a}, whose name "
            f"looks the same.)\n{text}"
        )
    return ToolOutcome(True, truncate_middle(text, context.limits.output))


async def _write(tool_input: WriteInput, context: ToolContext) -> ToolOutcome:
    sandbox = await context.sandbox()
    done = await sandbox.file(
        "write", path=tool_input.file_path, text=tool_input.content, confined=context.confined
    )
    verb = "Created" if done["created"] else "Wrote"
    return ToolOutcome(True, f"{verb} {tool_input.file_path} ({done['bytes']} bytes).")


async def _edit(tool_input: EditInput, context: ToolContext) -> ToolOutcome:
    sandbox = await context.sandbox()
    done = await sandbox.file(
        "edit",
        path=tool_input.file_path,
        old=tool_input.old_string,
        new=tool_input.new_string,
        replace_all=bool(tool_input.replace_all),
        confined=context.confined,
    )
    return ToolOutcome(
        True, f"Edited {tool_input.file_path}, replacements: {done['replacements']}."
    )


async def _glob(tool_input: GlobInput, context: ToolContext) -> ToolOutcome:
    sandbox = await context.sandbox()
    found = await sandbox.file("glob", pattern=tool_input.pattern, path=tool_input.path)
    return _list_outcome(context, found["paths"], "(no file matches)", truncated=found["truncated"])


async def _grep(tool_input: GrepInput, context: ToolContext) -> ToolOutcome:
    sandbox = await context.sandbox()
    found = await sandbox.file(
        "grep",
        pattern=tool_input.pattern,
        path=tool_input.path,
        glob=tool_input.glob,
        mode=tool_input.output_mode or "files_with_matches",
        limit=min(tool_input.head_limit or GREP_LIMIT, GREP_LIMIT_MAX),
        ignore_case=bool(tool_input.ignore_case),
        before=tool_input.lines_before or tool_input.lines_around or 0,
        after=tool_input.lines_after or tool_input.lines_around or 0,
        multiline=bool(tool_input.multiline),
        type=tool_input.type,
    )
    listed = _list_outcome(context, found["lines"], "(no match)", truncated=found["truncated"])
    notes = list(found.get("unseen", ()))
    if tool_input.model_extra:
        unknown = ", ".join(map(repr, tool_input.model_extra))
        notes.append(f"Grep has no option {unknown}: ignored.")
    return replace(listed, text=f"{listed.text}\n({' '.join(notes)})") if notes else listed


def _list_outcome(
    context: ToolContext, lines: list[str], if_empty: str, *, truncated: bool
) -> ToolOutcome:
    text = "\n".join(lines) or if_empty
    if truncated:
        text += "\n(there are more; narrow the search)"
    return ToolOutcome(True, truncate_middle(text, context.limits.output))


async def inside_workdir(sandbox: Sandbox, path: str) -> bool:
    """Whether ``path``, symlinks resolved, lies in the workdir."""
    try:
        resolved = await sandbox.file("resolve", path=path)
    except FileError:
        return False
    return bool(resolved["inside_workdir"])


BASH = Tool(
    "Bash",
    "Run a shell command in the loop's sandbox, in the workdir. There is no terminal, and no "
    "network but what the instructions name. Each call has a shell of its own: `cd` and variables "
    "do not carry over, files and background processes do. Long output is shortened in the "
    "middle; the result then names a file that has it.",
    BashInput,
    "other",
    _bash,
    lambda tool_input: tool_input.description or "Run a command",
)
READ = Tool(
    "Read",
    "Read a text file, with line numbers.",
    ReadInput,
    "read",
    _read,
    lambda tool_input: f"Read {tool_input.file_path}",
)
WRITE = Tool(
    "Write",
    "Write a file, replacing what it held. Makes missing directories.",
    WriteInput,
    "edit",
    _write,
    lambda tool_input: f"Write {tool_input.file_path}",
)
EDIT = Tool(
    "Edit",
    "Replace a text in a file. `old_string` must occur exactly once, unless `replace_all`.",
    EditInput,
    "edit",
    _edit,
    lambda tool_input: f"Edit {tool_input.file_path}",
)
GLOB = Tool(
    "Glob",
    "Find files by name, newest first.",
    GlobInput,
    "read",
    _glob,
    lambda tool_input: f"Find {tool_input.pattern}",
)
GREP = Tool(
    "Grep",
    "Search the content of files.",
    GrepInput,
    "read",
    _grep,
    lambda tool_input: f"Search for {tool_input.pattern}",
)
ASK_USER_QUESTION = Tool(
    "AskUserQuestion",
    "Ask the person one or more questions with answers to choose from, and wait for the answers. "
    "Use it when a decision is theirs.",
    AskUserQuestionInput,
    "other",
    None,
    lambda _: "Ask a question",
)

TOOLS: Mapping[str, Tool[Any]] = {
    tool.name: tool for tool in (BASH, READ, WRITE, EDIT, GLOB, GREP, ASK_USER_QUESTION)
}
