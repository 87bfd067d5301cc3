"""Long texts, a piece at a time.

A regular expression holds the interpreter until it is through its text, whichever thread it runs
in: a megabyte at once would stop the whole server for a moment, and a turn may have said many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

CHUNK_CHARACTERS = 16 << 10
"""Characters of one piece, about."""


def map_chunks(change: Callable[[str], str], text: str) -> str:
    """``change`` of every piece of ``text``, put together again."""
    if len(text) <= CHUNK_CHARACTERS:
        return change(text)
    return "".join(map(change, split_chunks(text)))


def split_chunks(text: str) -> Iterator[str]:
    """``text`` cut after line ends; in longer lines after a space, and only in the middle of a word
    where that is longer still."""
    begin = 0
    while len(text) - begin > CHUNK_CHARACTERS:
        limit = begin + CHUNK_CHARACTERS
        end = text.rfind("\n", begin, limit) + 1 or text.rfind(" ", begin, limit) + 1 or limit
        yield text[begin:end]
        begin = end
    yield text[begin:]
