"""A model's response, made fit to be stored, shown and sent back.

Models produce half characters (see :mod:`loopat_jupyter.loops.text`), the same id twice, or none.
After :func:`sanitize_response` a response has whole characters only, and each call an id that is
unique within the turn.
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
    """Makes a stream of deltas whole: a first half waits for its second."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, delta: str) -> str:
        text, self._half = self._half + delta, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return sanitize_text(text)

    def end(self) -> str:
        """What is left when the stream is over."""
        text, self._half = self._half, ""
        return sanitize_text(text)


def sanitize_response(response: ModelReply, taken: set[str]) -> ModelReply:
    """``response`` as it goes into the journal. ``taken``: the conversation's call ids so far;
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
    """Half characters replaced anywhere in a call's input. NUL stays: the tool refuses it."""
    if isinstance(value, str):
        return _joined(value)
    if isinstance(value, Mapping):
        return {_joined(str(key)): sanitize_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [sanitize_value(item) for item in value]
    return value


def _joined(text: str) -> str:
    """Like :func:`sanitize_text`, but NUL stays."""
    return "\0".join(sanitize_text(piece) for piece in text.split("\0"))
