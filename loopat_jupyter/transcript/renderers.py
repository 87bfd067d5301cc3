"""The formats, by the names they have in the API."""

from __future__ import annotations

from typing import Protocol

from .json import JsonRenderer
from .markdown import MarkdownRenderer
from .notebook import NotebookRenderer
from .turn import Header, TranscriptTurn


class Renderer(Protocol):
    """Writes one document, in pieces: head, every turn in order, tail. One object, one document."""

    def head(self, head: Header) -> str: ...
    def turn(self, story: TranscriptTurn) -> str: ...
    def tail(self) -> str: ...


RENDERERS: dict[str, type[Renderer]] = {
    "json": JsonRenderer,
    "md": MarkdownRenderer,
    "ipynb": NotebookRenderer,
}
