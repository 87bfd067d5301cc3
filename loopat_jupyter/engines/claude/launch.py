"""How the CLI is started: its arguments and its environment.

It loads nothing but what is given here: no settings of a user, a project or the workdir, no MCP
server, no plugin, no slash command. Every variable that names a model names the configured one, so
that no other is called. The permission mode is the CLI's strictest: whatever it would prompt about
comes to the permission hook.
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

from ...context.config_file import SelectedModel
from ...context.config_models import Thinking
from ...loops.ports.network import GatewayAccess
from ...loops.ports.sandbox import Sandbox
from ..tools.outcome import ToolLimits
from .tool_kinds import OFFERED

SETTINGS = {
    "includeCoAuthoredBy": False,
    "attribution": {"commit": "", "pr": ""},
    "cleanupPeriodDays": 36_500,  # a choice may be resolved after any time
}
SWITCHES = {
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",  # their end would start a turn
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
FIND_TIMEOUT = 10.0
"""Seconds to look for the CLI in a container."""
CONFIG_DIR = ".loopat/claude"
"""Below the sandbox's home, which belongs to the loop and outlives the sandbox."""


def bundled_cli() -> str:
    """The path of the CLI in the SDK's package; ``claude`` where it has none, for the ``PATH``."""
    found = importlib.util.find_spec("claude_agent_sdk")
    if found is not None and found.origin:
        path = Path(found.origin).resolve().parent / "_bundled" / "claude"
        if path.is_file():
            return str(path)
    return "claude"


async def find_cli(sandbox: Sandbox) -> str:
    """The CLI's path in this sandbox. A container has programs of its own, and sees the server's
    only where they are mounted."""
    path = await asyncio.to_thread(bundled_cli)
    if sandbox.isolation.tier != "podman":
        return path
    found = await sandbox.run(f"test -x {shlex.quote(path)}", timeout=FIND_TIMEOUT)
    return path if found.exit_code == 0 else "claude"


@dataclass(frozen=True, slots=True)
class CliLaunch:
    """One way to start the CLI; a running CLI is reused for a launch that is equal."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]

    def command(self, session_id: str, *, resume: bool) -> list[str]:
        """The whole command line. ``--name=value``, so that no value is read as an option."""
        option = "resume" if resume else "session-id"
        return [*self.argv, f"--{option}={session_id}"]


def build_launch(
    program: Sequence[str],
    model: SelectedModel,
    instructions: str,
    access: GatewayAccess,
    home: str,
    tools: ToolLimits,
    model_calls: int,
) -> CliLaunch:
    """``instructions`` is the argument from :func:`instructions_argument`; ``home`` the sandbox's;
    ``model_calls`` how often one turn may call its model."""
    argv = [
        *program,
        *("--output-format", "stream-json", "--input-format", "stream-json", "--verbose"),
        *("--include-partial-messages", "--session-mirror", "--await-initialize"),
        *("--strict-mcp-config", "--setting-sources=", "--disable-slash-commands"),
        *("--permission-mode", "default", "--permission-prompt-tool", "stdio"),
        *("--system-prompt-snapshot", "off", instructions),
        *("--settings", json.dumps(SETTINGS), "--tools", ",".join(OFFERED)),
        *(f"--model={model.model}", f"--max-turns={model_calls}"),
        *_thinking_arguments(model.thinking),
    ]
    return CliLaunch(tuple(argv), tuple(sorted(_environment(model, access, home, tools).items())))


async def instructions_argument(sandbox: Sandbox, instructions: str) -> str:
    """The argument with the agent's instructions; long ones are written to a file there."""
    data = instructions.encode("utf-8", "replace")
    if len(data) <= ARGUMENT_MAX:
        return f"--append-system-prompt={data.decode()}"
    name = f"{hashlib.sha256(data).hexdigest()[:16]}.md"
    path = f"{sandbox.home}/{CONFIG_DIR}/instructions/{name}"
    await sandbox.file("write", path=path, text=instructions)
    return f"--append-system-prompt-file={path}"


def _thinking_arguments(thinking: Thinking | None) -> tuple[str, ...]:
    if thinking is False:
        return ("--thinking", "disabled")
    display = ("--thinking-display", "summarized")
    if thinking is None:
        return display
    effort = ("--effort", EFFORTS[thinking]) if isinstance(thinking, str) else ()
    return ("--thinking", "adaptive", *display, *effort)


def _environment(
    model: SelectedModel, access: GatewayAccess, home: str, tools: ToolLimits
) -> Mapping[str, str]:
    env = {
        **SWITCHES,
        **dict.fromkeys(MODEL_VARIABLES, model.model),
        "CLAUDE_CONFIG_DIR": f"{home}/{CONFIG_DIR}",
        "ANTHROPIC_BASE_URL": access.url,
        "ANTHROPIC_API_KEY": access.key,
        "BASH_DEFAULT_TIMEOUT_MS": str(int(tools.bash_timeout * 1000)),
        "BASH_MAX_TIMEOUT_MS": str(int(tools.bash_timeout_max * 1000)),
        "BASH_MAX_OUTPUT_LENGTH": str(tools.output),
    }
    if model.base_url is not None:  # other servers of the API may not know its betas
        env["CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS"] = "1"
    if model.max_tokens is not None:
        env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(model.max_tokens)
    if model.context_window is not None:
        env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(model.context_window)
    return env
