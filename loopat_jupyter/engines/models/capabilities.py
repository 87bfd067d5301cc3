"""What a model can do, when the configuration does not say: its window, its longest answer, how it
is told to think.

Behind a gateway only the name is left to go by. For a name that says nothing the guess is small: a
window taken too large fails a turn, and one taken too small merely leaves out old results early.
"""

from __future__ import annotations

import re
from typing import NamedTuple

UNKNOWN = 128_000
UNKNOWN_AT_OWN_ADDRESS = 32_000
"""Servers of one's own often run with small windows, whatever their model could do."""
UNKNOWN_OUTPUT = 16_384
"""The Messages API insists on a limit."""

_CLAUDE = re.compile(
    r"claude-(?P<family>opus|sonnet|haiku|fable|mythos)-(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?!\d)"
)
_OLD_CLAUDE = re.compile(r"claude-(?:3|instant|2|4-)")
_ADAPTIVE_SINCE = {"opus": (4, 6), "sonnet": (4, 6), "haiku": (5, 5), "fable": (5, 0)}

_WINDOWS: tuple[tuple[str, int], ...] = (
    (r"claude", 200_000),
    (r"gpt-4\.1", 1_000_000),
    (r"gpt-(4o|4-turbo)", 128_000),
    (r"gpt-4", 8_000),
    (r"gpt-[5-9]", 270_000),
    (r"o[1-9]\b", 200_000),
    (r"gemini", 1_000_000),
    (r"(grok|deepseek-(chat|reasoner|v)|kimi|glm-4)", 128_000),
)

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 10_000, "high": 16_384}
"""Tokens to think with, for models that take a number."""


class ClaudeTraits(NamedTuple):
    """``adaptive``: decides itself how long to think, and refuses a number of tokens.
    ``effort``: takes ``output_config.effort``. ``output``: its longest answer in tokens."""

    adaptive: bool
    effort: bool
    output: int


def base_name(model: str) -> str:
    """The model's own name: what gateways put in front of it is left out."""
    return model.rpartition("/")[2].lower()


def guess_window(model: str, *, own_address: bool) -> int:
    """The context window in tokens, input and answer together."""
    name = base_name(model)
    if name.startswith("claude") and claude_traits(model).adaptive:
        return 1_000_000
    for pattern, window in _WINDOWS:
        if re.match(pattern, name):
            return window
    return UNKNOWN_AT_OWN_ADDRESS if own_address else UNKNOWN


def claude_traits(model: str) -> ClaudeTraits:
    """By the name; for one that is not Claude's, what every server of the API takes."""
    name = base_name(model)
    found = _CLAUDE.search(name)
    if found is None:
        old = _OLD_CLAUDE.search(name) is not None
        return ClaudeTraits(False, False, 4096 if old else UNKNOWN_OUTPUT)
    family = "fable" if found["family"] == "mythos" else found["family"]
    version = (int(found["major"]), int(found["minor"] or 0))
    if version >= _ADAPTIVE_SINCE[family]:
        return ClaudeTraits(True, True, 128_000)
    if version >= (4, 5):
        return ClaudeTraits(False, family == "opus", 64_000)
    return ClaudeTraits(False, False, 4096)
