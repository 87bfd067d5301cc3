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

from ...loops.text import sanitize_text
from .messages import ModelReply, Part, ReplyToolCall

ID_LIMIT = 200


class SurrogateJoiner:
    """Joins surrogate pairs that deltas split: a high surrogate is held back for the low one."""

    def __init__(self) -> None:
        self._high = ""

    def add(self, delta: str) -> str:
        text, self._high = self._high + delta, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return sanitize_text(text)

    def end(self) -> str:
        """What is held back when the stream has ended."""
        text, self._high = self._high, ""
        return sanitize_text(text)


def sanitize_response(response: ModelReply, taken: set[str]) -> ModelReply:
    """``response`` as it is journaled. ``taken``: the call ids of the conversation so far, to which
    those of this response are added."""
    return replace(response, parts=tuple(_sanitize_part(part, taken) for part in response.parts))


def _sanitize_part(part: Part, taken: set[str]) -> Part:
    if not isinstance(part, ReplyToolCall):
        return replace(part, text=sanitize_text(part.text))
    sent = part.input if isinstance(part.input, str) else sanitize_value(part.input)
    call_id = sanitize_text(part.id).strip()
    if not call_id or len(call_id) > ID_LIMIT or call_id in taken:
        call_id = f"toolu_{secrets.token_hex(12)}"
    taken.add(call_id)
    return replace(part, id=call_id, tool=sanitize_text(part.tool), input=sent)


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
    """Like :func:`sanitize_text`, but NUL stays."""
    return "\0".join(sanitize_text(piece) for piece in text.split("\0"))
