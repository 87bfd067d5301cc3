"""How the CLI is started: its arguments and its environment.

Nothing is loaded but what is given here: no settings of a user, a project or the workdir, no MCP
server, no plugin, no slash command. Every variable that names a model names the configured one,
so that no other is ever asked. The permission mode is the CLI's strictest; whatever would prompt
comes to us, see :mod:`.gate`.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...context.config_file import SelectedModel, Thinking
from ...loops.ports.network import GatewayAccess
from ...loops.ports.sandbox import Sandbox
from ..tools.outcome import ToolLimits
from .tool_kinds import OFFERED

SETTINGS = {
    "includeCoAuthoredBy": False,
    "attribution": {"commit": "", "pr": ""},
    "cleanupPeriodDays": 36_500,  # a choice may be answered after any time
}
SWITCHES = {
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",  # they would wake it between turns
    "CLAUDE_CODE_DISABLE_CRON": "1",
    "CLAUDE_CODE_DISABLE_FILE_CHECKPOINTING": "1",
    "CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "1",
    "CLAUDE_BASH_MAINTAIN_PROJECT_WORKING_DIR": "1",
    "CLAUDE_CODE_MAX_RETRIES": "5",
    "IS_SANDBOX": "1",
}
MODEL_VARIABLES = (
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_FABLE_MODEL",
    "CLAUDE_CODE_SUBAGENT_MODEL",
)
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}
ARGUMENT_MAX = 100_000
"""Bytes of one argument; the kernel takes 128 KiB."""
LOOK_TIMEOUT = 10.0
CONFIG_DIR = ".loopat/claude"
"""Below the sandbox's home: it is the loop's own, and outlives the sandbox."""


def bundled_cli() -> str:
    """The CLI that the SDK's wheel brings, where the sandbox sees it; else one on its ``PATH``."""
    found = importlib.util.find_spec("claude_agent_sdk")
    if found is not None and found.origin:
        path = Path(found.origin).resolve().parent / "_bundled" / "claude"
        if path.is_file():
            return str(path)
    return "claude"


async def cli_in(sandbox: Sandbox) -> str:
    """The CLI as this sandbox sees it: a container has its own programs, and may see ours."""
    path = await asyncio.to_thread(bundled_cli)
    if sandbox.isolation.tier != "podman":
        return path
    found = await sandbox.run(f"test -x {shlex.quote(path)}", timeout=LOOK_TIMEOUT)
    return path if found.exit_code == 0 else "claude"


@dataclass(frozen=True, slots=True)
class CliLaunch:
    """One way to start the CLI; two that are equal can share a living one."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]

    def command(self, session_id: str, *, resume: bool) -> list[str]:
        """The whole command line. Equals forms: a value can never be read as a flag."""
        how = "resume" if resume else "session-id"
        return [*self.argv, f"--{how}={session_id}"]


def plan_launch(
    program: Sequence[str],
    choice: SelectedModel,
    told: str,
    loan: GatewayAccess,
    home: str,
    tools: ToolLimits,
    model_calls: int,
) -> CliLaunch:
    """``told`` is the argument from :func:`told_in`."""
    argv = [
        *program,
        *("--output-format", "stream-json", "--input-format", "stream-json", "--verbose"),
        *("--include-partial-messages", "--session-mirror", "--await-initialize"),
        *("--strict-mcp-config", "--setting-sources=", "--disable-slash-commands"),
        *("--permission-mode", "default", "--permission-prompt-tool", "stdio"),
        *("--system-prompt-snapshot", "off", told),
        *("--settings", json.dumps(SETTINGS), "--tools", ",".join(OFFERED)),
        *(f"--model={choice.model}", f"--max-turns={model_calls}"),
        *_thinking(choice.thinking),
    ]
    return CliLaunch(tuple(argv), tuple(sorted(_environment(choice, loan, home, tools).items())))


async def told_in(sandbox: Sandbox, instructions: str) -> str:
    """The argument that gives the agent its instructions; long ones go through a file inside."""
    data = instructions.encode("utf-8", "replace")
    if len(data) <= ARGUMENT_MAX:
        return f"--append-system-prompt={data.decode()}"
    name = f"{hashlib.sha256(data).hexdigest()[:16]}.md"
    path = f"{sandbox.home}/{CONFIG_DIR}/instructions/{name}"
    await sandbox.file("write", path=path, text=instructions)
    return f"--append-system-prompt-file={path}"


def _thinking(wanted: Thinking | None) -> tuple[str, ...]:
    if wanted is False:
        return ("--thinking", "disabled")
    shown = ("--thinking-display", "summarized")
    if wanted is None:
        return shown
    effort = ("--effort", EFFORTS[wanted]) if isinstance(wanted, str) else ()
    return ("--thinking", "adaptive", *shown, *effort)


def _environment(
    choice: SelectedModel, loan: GatewayAccess, home: str, tools: ToolLimits
) -> Mapping[str, str]:
    env = {
        **SWITCHES,
        **dict.fromkeys(MODEL_VARIABLES, choice.model),
        "CLAUDE_CONFIG_DIR": f"{home}/{CONFIG_DIR}",
        "ANTHROPIC_BASE_URL": loan.url,
        "ANTHROPIC_API_KEY": loan.key,
        "BASH_DEFAULT_TIMEOUT_MS": str(int(tools.bash_timeout * 1000)),
        "BASH_MAX_TIMEOUT_MS": str(int(tools.bash_timeout_max * 1000)),
        "BASH_MAX_OUTPUT_LENGTH": str(tools.output),
    }
    if choice.base_url is not None:  # not every server that speaks the API speaks its betas
        env["CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS"] = "1"
    if choice.max_tokens is not None:
        env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(choice.max_tokens)
    if choice.context_window is not None:
        env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(choice.context_window)
    return env
