"""What the agent says: its deltas as they come, and nothing twice when the whole message follows.

Only the main agent's words are the turn's text; what a sub-agent says is its caller's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ...loops.ports.engine import TurnHost
from ...loops.text import sanitize_text
from ..models.sanitize import SurrogateJoiner


class IncompleteMessage(Exception):
    """The model's answer broke off after some of it was shown, and another one begins."""


class TextStream:
    """One turn's text and thinking."""

    def __init__(self) -> None:
        self._message = ""
        self._shown = False
        self._streamed = {"text": 0, "thinking": 0}
        """Characters that came as deltas, and whose block has not come whole yet."""
        self._text, self._thinking = SurrogateJoiner(), SurrogateJoiner()

    async def delta(self, event: Mapping[str, Any], host: TurnHost) -> None:
        """One event of the provider's stream. Raises :class:`IncompleteMessage`."""
        kind = event.get("type")
        if kind == "message_start":
            self._begin(str(event.get("message", {}).get("id", "")))
        elif kind == "message_delta" and event.get("delta", {}).get("stop_reason"):
            self._shown = False  # the CLI itself ends a message that broke off, but without this
        elif kind == "content_block_delta":
            piece = event.get("delta", {})
            if piece.get("type") == "text_delta":
                await self._say("text", str(piece.get("text", "")), host)
            elif piece.get("type") == "thinking_delta":
                await self._say("thinking", str(piece.get("thinking", "")), host)
        elif kind == "content_block_stop":
            await _tell(host.thinking, self._thinking.end())
            await _tell(host.text, self._text.end())

    async def message(self, message: Mapping[str, Any], host: TurnHost) -> None:
        """A whole message: says what of it was not streamed. Raises :class:`IncompleteMessage`."""
        ident = str(message.get("id", ""))
        if ident != self._message:
            self._begin(ident)
        for block in blocks_of(message):
            kind = block.get("type")
            if kind in ("text", "thinking"):
                await self._rest(str(kind), str(block.get(kind, "")), host)

    def _begin(self, ident: str) -> None:
        if self._shown:
            raise IncompleteMessage
        self._message = ident
        self._streamed = {"text": 0, "thinking": 0}

    async def _say(self, kind: str, text: str, host: TurnHost) -> None:
        self._streamed[kind] += len(text)
        self._shown = True
        if kind == "text":
            await _tell(host.text, self._text.add(text))
        else:
            await _tell(host.thinking, self._thinking.add(text))

    async def _rest(self, kind: str, text: str, host: TurnHost) -> None:
        """``text`` is one block; blocks of one message come one after the other."""
        streamed = min(self._streamed[kind], len(text))
        self._streamed[kind] -= streamed
        await _tell(host.text if kind == "text" else host.thinking, sanitize_text(text[streamed:]))


async def _tell(say: Callable[[str], Awaitable[None]], text: str) -> None:
    if text:
        await say(text)


def blocks_of(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The content blocks of a message; what is none is left out."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return []
    return [block for block in content if isinstance(block, Mapping)]
