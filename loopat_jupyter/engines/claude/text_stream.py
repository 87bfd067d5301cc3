"""The agent's text and thinking: its deltas as they come, without repeating the whole message.

Only the main agent's text is the turn's text; a sub-agent's goes to the agent that started it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ...loops.ports.engine import TurnHost
from ...loops.text import sanitize_text
from ..models.sanitize import SurrogateJoiner


class IncompleteMessage(Exception):
    """The model's message broke off after a part of it was shown, and another one begins."""


class TextStream:
    """The text and thinking of one turn."""

    def __init__(self) -> None:
        self._message_id = ""
        self._has_shown = False
        self._streamed = {"text": 0, "thinking": 0}
        """Characters that came as deltas, and whose block has not come as a whole yet."""
        self._text, self._thinking = SurrogateJoiner(), SurrogateJoiner()

    async def add_event(self, event: Mapping[str, Any], host: TurnHost) -> None:
        """Show one event of the provider's stream. Raises :class:`IncompleteMessage`."""
        kind = event.get("type")
        if kind == "message_start":
            self._begin_message(str(event.get("message", {}).get("id", "")))
        elif kind == "message_delta" and event.get("delta", {}).get("stop_reason"):
            # The CLI also ends a message that broke off, but without a stop reason.
            self._has_shown = False
        elif kind == "content_block_delta":
            delta = event.get("delta", {})
            if delta.get("type") == "text_delta":
                await self._show_delta("text", str(delta.get("text", "")), host)
            elif delta.get("type") == "thinking_delta":
                await self._show_delta("thinking", str(delta.get("thinking", "")), host)
        elif kind == "content_block_stop":
            await _show(host.thinking, self._thinking.end())
            await _show(host.text, self._text.end())

    async def add_message(self, message: Mapping[str, Any], host: TurnHost) -> None:
        """Show what of a whole message did not come as deltas. Raises
        :class:`IncompleteMessage`."""
        message_id = str(message.get("id", ""))
        if message_id != self._message_id:
            self._begin_message(message_id)
        for block in blocks_of(message):
            kind = block.get("type")
            if kind in ("text", "thinking"):
                await self._show_remaining(str(kind), str(block.get(kind, "")), host)

    def _begin_message(self, message_id: str) -> None:
        if self._has_shown:
            raise IncompleteMessage
        self._message_id = message_id
        self._streamed = {"text": 0, "thinking": 0}

    async def _show_delta(self, kind: str, text: str, host: TurnHost) -> None:
        self._streamed[kind] += len(text)
        self._has_shown = True
        if kind == "text":
            await _show(host.text, self._text.add(text))
        else:
            await _show(host.thinking, self._thinking.add(text))

    async def _show_remaining(self, kind: str, text: str, host: TurnHost) -> None:
        """``text`` is one whole block; the blocks of a message come one after the other."""
        streamed = min(self._streamed[kind], len(text))
        self._streamed[kind] -= streamed
        show = host.text if kind == "text" else host.thinking
        await _show(show, sanitize_text(text[streamed:]))


async def _show(show: Callable[[str], Awaitable[None]], text: str) -> None:
    if text:
        await show(text)


def blocks_of(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The content blocks of a message; anything else in its content is left out."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return []
    return [block for block in content if isinstance(block, Mapping)]
