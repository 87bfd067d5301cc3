"""What a tool call is called here, and its input under the names that people and rules know.

The protocol has kinds and titles, not tool names. A name must be stable, because a remembered
permission holds for it, and narrow: a call that cannot be told from others by what it does is named
by its own title, so that a rule for it covers nothing else.
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
_OURS = frozenset(
    {"AskUserQuestion", "Bash", "Edit", "Glob", "Grep", NETWORK, "Write", *_BY_KIND.values()}
)
"""Names that mean something to rules and to the network; an agent's title cannot take one."""
_SHELLS = frozenset({"bash", "sh", "zsh", "/bin/bash", "/bin/sh", "/usr/bin/bash"})
_ALIASES = {"filepath": "file_path", "abs_path": "file_path", "absolute_path": "file_path"}


def policy_kind(kind: str) -> ToolKind:
    """What the permission policy takes the protocol's ``kind`` for; unknown ones are ``other``."""
    if kind in ("read", "search"):
        return "read"
    return "edit" if kind == "edit" else "other"


def tool_name(kind: str, title: str, given: Mapping[str, Any]) -> str:
    """``given`` is the call's input as :func:`readable` makes it."""
    if kind == "execute" and isinstance(given.get("command"), str):
        return "Bash"
    if kind == "edit":
        return "Write" if "content" in given and "old_string" not in given else "Edit"
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    if _IDENTIFIER.fullmatch(title) and title not in _OURS:
        return title
    return f"{kind or 'other'}: {title[:TITLE_LIMIT]}".strip()


def normalize_input(
    given: Mapping[str, Any], locations: Iterable[str], diffs: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """The input with the field names that are known elsewhere: ``command``, ``file_path``, …

    What the agent did not put into its input, but told beside it, is added: the one file it is
    about, and the change it makes there.
    """
    shown: dict[str, Any] = {}
    for key, value in given.items():
        name = _CAMEL.sub("_", str(key)).lower() if key != key.upper() else str(key)
        shown.setdefault(_ALIASES.get(name, name), value)
    command = shown.get("command")
    if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
        shown["command"] = _command_line(command)
    paths = list(dict.fromkeys(locations))
    if len(paths) == 1 and not {"file_path", "path", "command"} & shown.keys():
        shown["file_path"] = paths[0]
    changes = list(diffs)
    if len(changes) == 1 and not {"old_string", "new_string", "content", "diff"} & shown.keys():
        shown["old_string"] = changes[0].get("oldText") or ""
        shown["new_string"] = changes[0].get("newText") or ""
    return shown


def _command_line(words: list[str]) -> str:
    """One that is run by a shell stands for what the shell runs."""
    if len(words) == 3 and words[0] in _SHELLS and words[1] in ("-c", "-lc"):
        return words[2]
    return shlex.join(words)
