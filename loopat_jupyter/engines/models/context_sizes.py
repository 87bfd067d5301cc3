"""The size of a model's context window, where the configuration does not set it.

pydantic-ai knows the models of the providers it knows. Behind a gateway there is only the name to
go by; for an unknown name the guess is small, because a window assumed too large fails a turn, and
one assumed too small merely leaves out old tool results early.
"""

from __future__ import annotations

import re

UNKNOWN = 128_000
"""Tokens."""
UNKNOWN_AT_OWN_ADDRESS = 32_000
"""Tokens. Local servers often run with a small window, whatever their model supports."""

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
    """The window in tokens, request and response together.

    ``known``: pydantic-ai's value. ``own_address``: ``config.json`` has a base URL.
    """
    if known:
        return known
    name = model.rpartition("/")[2].lower()
    for pattern, window in _BY_NAME:
        if re.match(pattern, name):
            return window
    return UNKNOWN_AT_OWN_ADDRESS if own_address else UNKNOWN
