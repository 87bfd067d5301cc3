"""How large a model's context window is, when the configuration does not say.

pydantic-ai knows the models of the providers it knows. Behind a gateway only the name is left to
go by; for a name that says nothing the guess is small, because a window taken too large fails a
turn, and one taken too small merely leaves out old tool results early.
"""

from __future__ import annotations

import re

UNKNOWN = 128_000
UNKNOWN_AT_OWN_ADDRESS = 32_000
"""Servers of one's own often run with small windows, whatever their model could do."""

_BY_NAME: tuple[tuple[str, int], ...] = (
    (r"claude", 200_000),
    (r"gpt-4\.1", 1_000_000),
    (r"gpt-(4o|4-turbo)", 128_000),
    (r"gpt-4", 8_000),
    (r"gpt-[5-9]", 270_000),
    (r"o[1-9]\b", 200_000),
    (r"gemini", 1_000_000),
    (r"(grok|deepseek-(chat|reasoner|v)|kimi|glm-4)", 128_000),
)


def guess_window(model: str, *, known: int | None, own_address: bool) -> int:
    """Tokens, input and answer together. ``known``: what pydantic-ai says."""
    if known:
        return known
    name = model.rpartition("/")[2].lower()
    for pattern, window in _BY_NAME:
        if re.match(pattern, name):
            return window
    return UNKNOWN_AT_OWN_ADDRESS if own_address else UNKNOWN
