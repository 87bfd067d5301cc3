"""The CLI's tools: which are offered, their kind for the permission policy, and their titles.

A tool that is not named here is of the kind ``other``, which is asked about. Not offered are the
tools that need a network, start something that outlives the turn, or change the CLI's own mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...loops.ports.engine import ToolKind

ASK = "AskUserQuestion"
SUBAGENTS = frozenset({"Agent", "Task"})
TODO = ("TodoWrite", "TaskCreate", "TaskUpdate", "TaskList", "TaskGet")
"""The agent's notes about its plan: they change nothing else."""
OFFERED = (
    *("Bash", "Read", "Write", "Edit", "NotebookEdit", "Glob", "Grep"),
    *(ASK, "Agent", *TODO),
)
READS = frozenset({"Read", "Glob", "Grep", "LS", "NotebookRead", *TODO, *SUBAGENTS})
"""Starting a sub-agent changes nothing: each call that it makes is asked about like any other."""
EDITS: Mapping[str, str] = {
    "Write": "file_path",
    "Edit": "file_path",
    "MultiEdit": "file_path",
    "NotebookEdit": "notebook_path",
}
"""By tool: the input field with the path of the file."""

_TITLES: Mapping[str, tuple[str, str]] = {
    "Read": ("Read {}", "file_path"),
    "Write": ("Write {}", "file_path"),
    "Edit": ("Edit {}", "file_path"),
    "MultiEdit": ("Edit {}", "file_path"),
    "NotebookEdit": ("Edit {}", "notebook_path"),
    "Glob": ("Find {}", "pattern"),
    "Grep": ("Search for {}", "pattern"),
    "Bash": ("{}", "description"),
    "Agent": ("Start a sub-agent: {}", "description"),
    "Task": ("Start a sub-agent: {}", "description"),
}
_DEFAULT_TITLES = {"Bash": "Run a command", ASK: "Ask a question"}


def kind_of(tool: str) -> ToolKind:
    if tool in READS:
        return "read"
    return "edit" if tool in EDITS else "other"


def title_of(tool: str, tool_input: Mapping[str, Any]) -> str:
    """One line for the person who is asked; at most 200 characters."""
    template, field = _TITLES.get(tool, ("{}", ""))
    value = tool_input.get(field)
    if isinstance(value, str) and value.strip():
        return template.format(value)[:200]
    return _DEFAULT_TITLES.get(tool, f"Use {tool}")[:200]


def reviewed_input(
    model_input: Mapping[str, Any] | str | None, hook_input: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The input as a person is shown it: the model's, where that is what will run.

    ``hook_input`` is what will run. The CLI makes the path of a file tool absolute; where anything
    else differs from what the model sent, ``hook_input`` is shown.
    """
    if not isinstance(model_input, Mapping) or model_input.keys() != hook_input.keys():
        return hook_input
    pairs = ((name, value, hook_input[name]) for name, value in model_input.items())
    same = all(a == b or _is_same_path(name, a, b) for name, a, b in pairs)
    return model_input if same else hook_input


def _is_same_path(field: str, relative: Any, absolute: Any) -> bool:
    if field not in ("file_path", "notebook_path", "path"):
        return False
    if not isinstance(relative, str) or not isinstance(absolute, str):
        return False
    return absolute.startswith("/") and absolute.endswith("/" + relative.removeprefix("./"))
