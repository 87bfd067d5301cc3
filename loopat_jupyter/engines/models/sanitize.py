"""A model's output, made valid for the store, for clients and for the next request.

Models produce lone surrogates (when a provider cuts its JSON between the two escapes of one
character), the same call id twice, or none. After :func:`sanitize_response` a response has valid
text only, and each call an id that is unique within the conversation.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .messages import ModelReply, Part, ReplyToolCall

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
ID_LIMIT = 200


def replace_invalid(text: str) -> str:
    """``text`` with surrogate pairs joined, and lone surrogates and NUL replaced by U+FFFD."""
    if text.isascii():
        return text.replace("\0", REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", REPLACEMENT)


class SurrogateJoiner:
    """Joins surrogate pairs that deltas split: a high surrogate is held back for the low one."""

    def __init__(self) -> None:
        self._high = ""

    def add(self, delta: str) -> str:
        text, self._high = self._high + delta, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return replace_invalid(text)

    def end(self) -> str:
        """What is held back when the stream has ended."""
        text, self._high = self._high, ""
        return replace_invalid(text)


def sanitize_response(response: ModelReply, taken: set[str]) -> ModelReply:
    """``response`` as it is journaled. ``taken``: the call ids of the conversation so far, to which
    those of this response are added."""
    return replace(response, parts=tuple(_sanitize_part(part, taken) for part in response.parts))


def _sanitize_part(part: Part, taken: set[str]) -> Part:
    if not isinstance(part, ReplyToolCall):
        return replace(part, text=replace_invalid(part.text))
    sent = part.input if isinstance(part.input, str) else sanitize_value(part.input)
    call_id = replace_invalid(part.id).strip()
    if not call_id or len(call_id) > ID_LIMIT or call_id in taken:
        call_id = f"toolu_{secrets.token_hex(12)}"
    taken.add(call_id)
    return replace(part, id=call_id, tool=replace_invalid(part.tool), input=sent)


def sanitize_value(value: Any) -> Any:
    """Lone surrogates replaced anywhere in a call's input. NUL stays: the tools refuse it."""
    if isinstance(value, str):
        return _replace_surrogates(value)
    if isinstance(value, Mapping):
        return {_replace_surrogates(str(key)): sanitize_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [sanitize_value(item) for item in value]
    return value


def _replace_surrogates(text: str) -> str:
    """Like :func:`replace_invalid`, but NUL stays."""
    return "\0".join(replace_invalid(piece) for piece in text.split("\0"))
