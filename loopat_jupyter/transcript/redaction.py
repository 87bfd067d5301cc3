"""What no transcript holds: tokens, and places of the host.

A document is passed on to people who should have neither. Places are the server's own: in the tiers
that show a loop the host's paths (``landlock``, ``none``) they are all over what tools put out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .chunks import map_chunks

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
"""Where a place begins and ends: not within a name, but also after an escape in a JSON text, after
a colour, in an option (``-I/srv``), and at the end of a sentence."""
SHORTEST = 4
"""A place with a shorter name (``/``) stands in too many texts to be one."""


class Redactor:
    """``places`` are paths of the host, and what to call them instead."""

    def __init__(self, places: Mapping[str, str]) -> None:
        known = {p.rstrip("/"): name for p, name in places.items() if len(p.rstrip("/")) > SHORTEST}
        longest_first = sorted(known, key=len, reverse=True)
        self._names = known
        self._places = (
            re.compile(_BEFORE + "(?:" + "|".join(map(re.escape, longest_first)) + ")" + _AFTER)
            if known
            else None
        )

    def redact_text(self, text: str) -> str:
        """``text`` without them."""
        return map_chunks(self._piece, text)

    def _piece(self, text: str) -> str:
        if self._places is not None:
            text = self._places.sub(lambda found: self._names[found[0]], text)
        for pattern, instead in _TOKENS:
            text = pattern.sub(instead, text)
        return text

    def redact_value(self, value: Any) -> Any:
        """The same for every string in a JSON value, keys too."""
        if isinstance(value, str):
            return self.redact_text(value)
        if isinstance(value, Mapping):
            return {self.redact_text(name): self.redact_value(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.redact_value(item) for item in value]
        return value
