"""Tool names and inputs of an agent's calls, as permission rules and people know them.

The protocol has kinds and titles, but no tool names. A name must be stable, because a remembered
permission holds for it, and narrow: a call whose kind does not say what it does is named by its own
title, so that a rule for it covers nothing else.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ...loops.ports.engine import ToolKind
from ...loops.ports.network import NETWORK

TITLE_LIMIT = 80
_IDENTIFIER = re.compile(r"[A-Za-z][\w.:/-]{0,63}")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BY_KIND = {
    "delete": "Delete",
    "fetch": "WebFetch",
    "move": "Move",
    "read": "Read",
    "search": "Search",
    "think": "Think",
}
_RESERVED = frozenset(
    {"AskUserQuestion", "Bash", "Edit", "Glob", "Grep", NETWORK, "Write", *_BY_KIND.values()}
)
"""Names with a meaning to permission rules; the title of an agent's call is never taken for one."""
_SHELLS = frozenset({"bash", "sh", "zsh", "/bin/bash", "/bin/sh", "/usr/bin/bash"})
_ALIASES = {"filepath": "file_path", "abs_path": "file_path", "absolute_path": "file_path"}


def policy_kind(kind: str) -> ToolKind:
    """The permission policy's kind for the protocol's; unknown ones are ``other``."""
    if kind in ("read", "search"):
        return "read"
    return "edit" if kind == "edit" else "other"


def tool_name(kind: str, title: str, tool_input: Mapping[str, Any]) -> str:
    """``tool_input`` is the call's input from :func:`normalize_input`."""
    if kind == "execute" and isinstance(tool_input.get("command"), str):
        return "Bash"
    if kind == "edit":
        return "Write" if "content" in tool_input and "old_string" not in tool_input else "Edit"
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    if _IDENTIFIER.fullmatch(title) and title not in _RESERVED:
        return title
    return f"{kind or 'other'}: {title[:TITLE_LIMIT]}".strip()


def normalize_input(
    raw_input: Mapping[str, Any], locations: Iterable[str], diffs: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """The input with the field names of the builtin tools: ``command``, ``file_path``, …

    What the agent reports beside its input is added: the one file that the call is about, and the
    one change that it makes there.
    """
    fields: dict[str, Any] = {}
    for key, value in raw_input.items():
        name = _CAMEL.sub("_", str(key)).lower() if key != key.upper() else str(key)
        fields.setdefault(_ALIASES.get(name, name), value)
    command = fields.get("command")
    if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
        fields["command"] = _command_line(command)
    paths = list(dict.fromkeys(locations))
    if len(paths) == 1 and not {"file_path", "path", "command"} & fields.keys():
        fields["file_path"] = paths[0]
    changes = list(diffs)
    if len(changes) == 1 and not {"old_string", "new_string", "content", "diff"} & fields.keys():
        fields["old_string"] = changes[0].get("oldText") or ""
        fields["new_string"] = changes[0].get("newText") or ""
    return fields


def _command_line(words: list[str]) -> str:
    """The command as one string; of a shell with ``-c``, what the shell runs."""
    if len(words) == 3 and words[0] in _SHELLS and words[1] in ("-c", "-lc"):
        return words[2]
    return shlex.join(words)
