"""The permission policy: may this tool call run, must it be refused, or must a person be asked?

The contract's table ("Agent behaviour seen through the API"), the same whatever engine runs the
turn. Pure functions; where the answer comes from a person, see :mod:`.turn_context`.

A *remembered rule* stands for one tool in one loop. For Bash it is narrower: it stands for one
program with one subcommand, and only for *simple* commands. What cannot be read with certainty
is never covered by a rule. For the network it stands for one destination.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from .destinations import Destination
from .models import RuleRecord, new_rule_id, now
from .ports.engine import PermissionMode, ToolKind
from .ports.network import NETWORK

RuleDecision = Literal["run", "ask", "deny"]

_NOT_SIMPLE = re.compile(r"[;&|<>$(){}`\n\x00-\x08\x0b-\x1f\x7f]")

# Programs whose first words name another program to run: "env git" says nothing about what runs.
_WRAPPER_PROGRAMS = frozenset(
    {
        ".", "awk", "bash", "builtin", "busybox", "choom", "chroot", "chrt", "command", "conda",
        "dash", "docker", "doas", "env", "eval", "exec", "expect", "find", "fish", "flock", "gawk",
        "gdb", "hatch", "i386", "ionice", "ipython", "julia", "ksh", "linux", "ltrace", "lua",
        "make", "nice", "node", "nohup", "npx", "nsenter", "numactl", "parallel", "pdm", "perl",
        "php", "pipx", "podman", "poetry", "prlimit", "pypy", "python", "rscript", "ruby",
        "runuser", "script", "sed", "setarch", "setpriv", "setsid", "sh", "source", "ssh",
        "ssh-agent", "stdbuf", "strace", "su", "sudo", "systemd-run", "taskset", "time", "timeout",
        "unshare", "uv", "uvx", "valgrind", "vi", "vim", "watch", "x86_", "xargs", "zsh",
    }
)  # fmt: skip
_VERSION = re.compile(r"[\d.]+$")

# Words of the shell's own grammar: what follows them is a command, not a subcommand.
_RESERVED = frozenset(
    {
        "!", "[[", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function",
        "if", "in", "select", "then", "until", "while",
    }
)  # fmt: skip


def evaluate(
    mode: PermissionMode, kind: ToolKind, *, inside_workdir: bool, remembered: bool
) -> RuleDecision:
    """The contract's table. ``remembered``: a rule of the loop covers this call.

    ``auto`` and ``bypassPermissions`` run every tool and still deny a destination that is on no
    allow-list: they widen what the agent may do inside its sandbox, not what the sandbox may reach.
    """
    if kind == "network":
        return _evaluate_network(mode, remembered=remembered)
    if kind == "read" or mode in ("auto", "bypassPermissions"):
        return "run"
    if mode == "plan":
        return "deny"
    if remembered:
        return "run"
    if kind == "edit" and inside_workdir and mode in ("acceptEdits", "dontAsk"):
        return "run"
    return "deny" if mode == "dontAsk" else "ask"


def _evaluate_network(mode: PermissionMode, *, remembered: bool) -> RuleDecision:
    if mode == "plan":
        return "deny"
    if remembered:
        return "run"
    return "ask" if mode in ("default", "acceptEdits") else "deny"


def rule_key(command: str) -> str | None:
    """What a rule about ``command`` stands for: its program and subcommand.

    ``None`` for a command that is not simple. A command with options and nothing else has no
    subcommand, and stands for its program. One whose second word is an option with operands
    behind it has none that could be read with certainty (``git -C dir push``): it stands for
    itself alone, like one whose program runs others or takes code as an option.
    """
    if _NOT_SIMPLE.search(command):
        return None
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words or "=" in words[0] or words[0] in _RESERVED:
        return None
    program, *rest = words
    if _is_wrapper(program):
        return shlex.join(words)
    if all(word.startswith("-") for word in rest):
        return shlex.join([program])
    if rest[0].startswith("-"):
        return shlex.join(words)
    return shlex.join([program, rest[0]])


def _is_wrapper(program: str) -> bool:
    name = program.rpartition("/")[2].lower()
    return name in _WRAPPER_PROGRAMS or _VERSION.sub("", name) in _WRAPPER_PROGRAMS


def new_rule(tool: str, tool_input: Mapping[str, Any]) -> RuleRecord | None:
    """The rule that remembers an allowed call, ``None`` where none can cover it."""
    prefix = _rule_prefix(tool, tool_input)
    if tool in _SCOPED_TOOLS and prefix is None:
        return None
    return RuleRecord(new_rule_id(), tool, prefix, now())


def is_remembered(rules: Iterable[RuleRecord], tool: str, tool_input: Mapping[str, Any]) -> bool:
    """Whether one of the loop's rules covers this call."""
    key = _rule_prefix(tool, tool_input)
    if tool in _SCOPED_TOOLS and key is None:
        return False
    return any(rule.tool == tool and rule.prefix == key for rule in rules)


_SCOPED_TOOLS = frozenset({"Bash", NETWORK})
"""Tools whose rules stand for less than the tool."""


def _rule_prefix(tool: str, tool_input: Mapping[str, Any]) -> str | None:
    if tool == "Bash":
        return rule_key(str(tool_input.get("command", "")))
    if tool == NETWORK:
        host, port = tool_input.get("host"), tool_input.get("port")
        if isinstance(host, str) and isinstance(port, int):
            return str(Destination(host, port))
    return None
