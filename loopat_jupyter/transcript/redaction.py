"""Removal of what no transcript may hold: tokens, and paths of the host.

A document is passed on to people who should have neither. In the sandbox tiers that show a loop the
host's paths (``landlock``, ``none``) the output of tools is full of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .escape import map_chunks

_TOKENS = (
    (re.compile(r"la_[0-9a-f]{48}\b"), "la_…"),
    (re.compile(r"(?i)([?&](?:token|_xsrf|access_token)=)[^&\s\"'<>#)\]]+"), r"\1…"),
    (
        re.compile(
            r"(?i)(authorization\\?[\"']?\s*[:=,]\s*\\?[\"']?(?:bearer|token|basic)\s+)[^\s\"'\\]+"
        ),
        r"\1…",
    ),
)
_BEFORE = r"(?:(?<![\w.-])|(?<=\\[abfnrtv])|(?<=[0-9;\[][mK])|(?<=-[A-Za-z]))"
_AFTER = r"(?![\w-]|\.+[\w-])"
"""Where a path begins and ends: not within a name, but also after an escape in a JSON text, after
a colour's escape sequence, in an option (``-I/srv``), and at the end of a sentence."""
SHORTEST_PATH = 4
"""Characters; a path that is not longer (``/``) occurs in too many texts that do not mean it."""


class Redactor:
    """``aliases`` maps paths of the host to what a document calls them instead."""

    def __init__(self, aliases: Mapping[str, str]) -> None:
        self._aliases = {
            path.rstrip("/"): alias
            for path, alias in aliases.items()
            if len(path.rstrip("/")) > SHORTEST_PATH
        }
        # The longest first: a path may begin with another one.
        paths = "|".join(map(re.escape, sorted(self._aliases, key=len, reverse=True)))
        self._paths = re.compile(f"{_BEFORE}(?:{paths}){_AFTER}") if paths else None

    def redact_text(self, text: str) -> str:
        """``text`` with tokens cut short and the host's paths replaced by their aliases."""
        return map_chunks(self._redact_chunk, text)

    def _redact_chunk(self, text: str) -> str:
        if self._paths is not None:
            text = self._paths.sub(lambda found: self._aliases[found[0]], text)
        for pattern, replacement in _TOKENS:
            text = pattern.sub(replacement, text)
        return text

    def redact_value(self, value: Any) -> Any:
        """A JSON value with every string in it redacted, also the keys of objects."""
        if isinstance(value, str):
            return self.redact_text(value)
        if isinstance(value, Mapping):
            return {self.redact_text(name): self.redact_value(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.redact_value(item) for item in value]
        return value
