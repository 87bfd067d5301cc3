"""Finds the loop that a name means. No I/O.

A name is a loop's id, a beginning of it that no other shares, its title, or its title as one word
(``my analysis`` as ``my-analysis``), so that what completion offers needs no quotes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from IPython.core.error import UsageError

from loopat_jupyter.client import Loop

_BREAK = re.compile(r"[^\w.]+")


def one_word(title: str) -> str:
    """``title`` without blanks and quotes, for a command line."""
    return _BREAK.sub("-", title).strip("-").casefold()


def find_loop(name: str, loops: Sequence[Loop]) -> Loop:
    """The one of ``loops`` that ``name`` means.

    Raises:
        UsageError: none, with the nearest names; or several, with their ids.
    """
    for found in _matches(name, loops):
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(loop.id for loop in found)
            raise UsageError(f"{len(found)} loops are called {name!r}: use an id ({ids})")
    raise UsageError(f"no loop is called {name!r}{_nearest(name, loops)}")


def _matches(name: str, loops: Sequence[Loop]) -> Iterable[list[Loop]]:
    yield [loop for loop in loops if loop.id == name]
    yield [loop for loop in loops if loop.title == name]
    yield [loop for loop in loops if one_word(loop.title) == one_word(name) != ""]
    if len(name) >= len("loop_") + 4:
        yield [loop for loop in loops if loop.id.startswith(name)]


def _nearest(name: str, loops: Sequence[Loop]) -> str:
    if not loops:
        return ": there is none yet, %loop new TITLE makes one"
    words = {one_word(loop.title): loop.title for loop in reversed(loops)}
    near = difflib.get_close_matches(one_word(name), words, n=3, cutoff=0.5)
    if near:
        return f". Did you mean {' or '.join(repr(words[word]) for word in near)}?"
    return ": %loop list shows them"
