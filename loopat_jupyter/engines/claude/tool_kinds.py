"""The CLI's tools: which are offered, what kind each is to the policy, how a person sees a call.

What is not named here is ``other``, the kind that is asked about. Left out are the tools that
need a network, start something that outlives the turn's control, or change the CLI's own mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...loops.ports.engine import ToolKind

ASK = "AskUserQuestion"
SUBAGENTS = frozenset({"Agent", "Task"})
TODO = ("TodoWrite", "TaskCreate", "TaskUpdate", "TaskList", "TaskGet")
"""The agent's own notes about its plan: they change nothing but themselves."""
OFFERED = (
    *("Bash", "Read", "Write", "Edit", "NotebookEdit", "Glob", "Grep"),
    *(ASK, "Agent", *TODO),
)
READS = frozenset({"Read", "Glob", "Grep", "LS", "NotebookRead", *TODO, *SUBAGENTS})
"""A sub-agent by itself does nothing: each call it makes is asked about like any other."""
EDITS: Mapping[str, str] = {
    "Write": "file_path",
    "Edit": "file_path",
    "MultiEdit": "file_path",
    "NotebookEdit": "notebook_path",
}
"""Which field names the file."""

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
_PLAIN = {"Bash": "Run a command", ASK: "Ask a question"}


def kind_of(tool: str) -> ToolKind:
    if tool in READS:
        return "read"
    return "edit" if tool in EDITS else "other"


def title_of(tool: str, tool_input: Mapping[str, Any]) -> str:
    """One line for the person who is asked; at most 200 characters."""
    form, name = _TITLES.get(tool, ("{}", ""))
    value = tool_input.get(name)
    if isinstance(value, str) and value.strip():
        return form.format(value)[:200]
    return _PLAIN.get(tool, f"Use {tool}")[:200]


def shown_input(sent: Mapping[str, Any] | str | None, run: Mapping[str, Any]) -> Mapping[str, Any]:
    """The input as a person is shown it: what the model sent where that is what will run.

    The CLI makes the path of a file tool absolute; nothing else may differ.
    """
    if not isinstance(sent, Mapping) or sent.keys() != run.keys():
        return run
    pairs = ((name, value, run[name]) for name, value in sent.items())
    return sent if all(a == b or _is_path(name, a, b) for name, a, b in pairs) else run


def _is_path(name: str, sent: Any, run: Any) -> bool:
    if name not in ("file_path", "notebook_path", "path"):
        return False
    if not isinstance(sent, str) or not isinstance(run, str):
        return False
    return run.startswith("/") and run.endswith("/" + sent.removeprefix("./"))
