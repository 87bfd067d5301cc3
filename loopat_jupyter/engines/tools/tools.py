"""The tools of the engine ``builtin``, run in the loop's sandbox.

A tool never raises for what its call got wrong: that is an :class:`ToolOutcome` with ``ok`` false,
which the agent reads. What it lets pass is a sandbox that ended
(:class:`~loopat_jupyter.loops.errors.SandboxLost`), a turn that waits, and cancellation.
Whether a call may run at all is not decided here; see :mod:`.calls`.
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


class InvalidInput(Exception):
    """The model's input does not fit the tool; the message tells it why."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Where a tool runs: the loop's sandbox, and what was decided about the call."""

    sandbox: Callable[[], Awaitable[Sandbox]]
    limits: ToolLimits
    confined: bool = False


@dataclass(frozen=True, slots=True)
class Tool(Generic[In]):
    """One tool. One without ``run`` is answered by the person; see :mod:`.questions`."""

    name: str
    description: str
    input: type[In]
    kind: ToolKind
    run: Callable[[In, ToolContext], Awaitable[ToolOutcome]] | None
    title: Callable[[In], str]

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, self.description, self.input.json_schema())

    def parse(self, sent: Mapping[str, Any] | str) -> In:
        """The validated input. Raises :class:`InvalidInput`."""
        if isinstance(sent, str):
            raise InvalidInput(
                f"The input of {self.name} is not a valid JSON object, so nothing was run. "
                "Call the tool again with one."
            )
        try:
            return self.input.model_validate(dict(sent))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc']) or 'input'}: {item['msg']}"
                for item in error.errors(include_input=False, include_url=False)
            )
            raise InvalidInput(
                f"The input of {self.name} is not valid, so nothing was run: {problems}"
            ) from None


async def _bash(asked: BashInput, scene: ToolContext) -> ToolOutcome:
    sandbox = await scene.sandbox()
    background = bool(asked.run_in_background)
    limits = scene.limits
    seconds = asked.seconds(limits.bash_timeout, limits.bash_timeout_max)
    done = await sandbox.run(asked.command, timeout=seconds, background=background)
    # Bytes that are no text become three each after the sandbox has cut to its limit.
    output = truncate_middle(done.output, limits.output + 1024)
    outcome = _bash_outcome(asked, replace(done, output=output), seconds)
    return replace(outcome, refused=tuple(map(str, sandbox.network.drain_denied())))


def _bash_outcome(asked: BashInput, done: CommandResult, seconds: float) -> ToolOutcome:
    lines = [done.output.rstrip("\n")] if done.output.strip("\n") else []
    if done.timed_out:
        lines.append(f"Timed out after {seconds:g} s; the command was killed.")
    elif asked.run_in_background:
        lines.append(f"Runs in the background as pid {done.background_pid}.")
        if done.output_file:
            lines.append(f"Its output goes to {done.output_file}")
    elif done.exit_code:
        lines.append(f"exit code {done.exit_code}")
    ok = not done.timed_out and not done.exit_code
    return ToolOutcome(ok, "\n".join(lines) or "(no output)")


async def _read(asked: ReadInput, scene: ToolContext) -> ToolOutcome:
    sandbox = await scene.sandbox()
    first, limit = max(asked.offset or 1, 1), asked.limit or 2000
    got = await sandbox.file("read", path=asked.file_path, offset=first, limit=limit)
    lines: list[str] = got["lines"]
    if not lines:
        total = got["total_lines"]
        return ToolOutcome(True, f"(no lines from {first} on; the file has {total} lines)")
    text = "\n".join(f"{number:>6}\t{line}" for number, line in enumerate(lines, got["start"]))
    if got["truncated"]:
        shown = f"{got['start']} to {got['start'] + len(lines) - 1} of {got['total_lines']}"
        text += f"\n(lines {shown}; read on with offset and limit)"
    return ToolOutcome(True, truncate_middle(text, scene.limits.output))


async def _write(asked: WriteInput, scene: ToolContext) -> ToolOutcome:
    sandbox = await scene.sandbox()
    done = await sandbox.file(
        "write", path=asked.file_path, text=asked.content, confined=scene.confined
    )
    verb = "Created" if done["created"] else "Wrote"
    return ToolOutcome(True, f"{verb} {asked.file_path} ({done['bytes']} bytes).")


async def _edit(asked: EditInput, scene: ToolContext) -> ToolOutcome:
    sandbox = await scene.sandbox()
    done = await sandbox.file(
        "edit",
        path=asked.file_path,
        old=asked.old_string,
        new=asked.new_string,
        replace_all=bool(asked.replace_all),
        confined=scene.confined,
    )
    return ToolOutcome(True, f"Edited {asked.file_path}, replacements: {done['replacements']}.")


async def _glob(asked: GlobInput, scene: ToolContext) -> ToolOutcome:
    sandbox = await scene.sandbox()
    got = await sandbox.file("glob", pattern=asked.pattern, path=asked.path)
    return _listed(scene, got["paths"], "(no file matches)", truncated=got["truncated"])


async def _grep(asked: GrepInput, scene: ToolContext) -> ToolOutcome:
    sandbox = await scene.sandbox()
    mode = asked.output_mode or "files_with_matches"
    got = await sandbox.file(
        "grep", pattern=asked.pattern, path=asked.path, glob=asked.glob, mode=mode
    )
    return _listed(scene, got["lines"], "(no match)", truncated=got["truncated"])


def _listed(scene: ToolContext, lines: list[str], nothing: str, *, truncated: bool) -> ToolOutcome:
    text = "\n".join(lines) or nothing
    if truncated:
        text += "\n(there are more; narrow the search)"
    return ToolOutcome(True, truncate_middle(text, scene.limits.output))


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
    lambda asked: asked.description or "Run a command",
)
READ = Tool(
    "Read",
    "Read a text file, with line numbers.",
    ReadInput,
    "read",
    _read,
    lambda asked: f"Read {asked.file_path}",
)
WRITE = Tool(
    "Write",
    "Write a file, replacing what it held. Makes missing directories.",
    WriteInput,
    "edit",
    _write,
    lambda asked: f"Write {asked.file_path}",
)
EDIT = Tool(
    "Edit",
    "Replace a text in a file. `old_string` must occur exactly once, unless `replace_all`.",
    EditInput,
    "edit",
    _edit,
    lambda asked: f"Edit {asked.file_path}",
)
GLOB = Tool(
    "Glob",
    "Find files by name, newest first.",
    GlobInput,
    "read",
    _glob,
    lambda asked: f"Find {asked.pattern}",
)
GREP = Tool(
    "Grep",
    "Search the content of files.",
    GrepInput,
    "read",
    _grep,
    lambda asked: f"Search for {asked.pattern}",
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
