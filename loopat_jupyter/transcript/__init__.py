"""A loop's story as a document: Markdown, JSON or a notebook.

:func:`tell` makes a turn's story of what is stored of it, a :class:`Renderer` writes stories down.
Both are pure, work a turn at a time (so a long loop needs no more memory than its longest turn),
and may take long: call them off the event loop.

What an agent said, and what its tools put out, is text of a stranger. It stays in its place (a
quote, a fence longer than any in it), it makes no HTML, no picture and no link but to the web, and
tokens and places of the host are left out: see :mod:`.veil`, :mod:`.plain` and :mod:`.quoting`.
"""

from __future__ import annotations

from .redaction import Redactor
from .renderers import RENDERERS, Renderer
from .turn import Header, TranscriptTurn, build_turn

__all__ = ["RENDERERS", "Header", "Redactor", "Renderer", "TranscriptTurn", "build_turn"]
