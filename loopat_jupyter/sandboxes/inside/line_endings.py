"""Lines of a text file, and how each ends: what Read shows, Edit matches and Write keeps.

A line ends with LF, CR LF or CR, as in every editor; form feeds, U+0085 and U+2028 end none. Texts
of the agent have LF alone, since that is how a file is shown to it. What is put into a file takes
on the endings that are there: a replaced text keeps those of the lines it replaces, in their order,
and has the file's usual ending beyond them. A byte order mark stays where it is.
"""

from __future__ import annotations

import re
from bisect import bisect_right

BOM = "\ufeff"
_ENDING = re.compile(r"\r\n|\n|\r")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def is_utf16(data: bytes) -> bool:
    """Whether a file begins as UTF-16 text does."""
    return data[:2] in _UTF16


def split_lines(text: str) -> list[str]:
    """The lines of ``text`` without their endings and without a byte order mark."""
    lines = _ENDING.split(text.removeprefix(BOM))
    if lines and not lines[-1]:
        lines.pop()
    return lines


def with_lf(text: str) -> str:
    """``text`` with LF for every ending."""
    return _ENDING.sub("\n", text) if "\r" in text else text


def usual_ending(text: str) -> str:
    """The ending that most lines of ``text`` have; LF where there is none."""
    crlf = text.count("\r\n")
    counts = {"\r\n": crlf, "\n": text.count("\n") - crlf, "\r": text.count("\r") - crlf}
    return max(counts, key=lambda ending: (counts[ending], ending == "\n"))


def with_endings_of(text: str, before: str) -> str:
    """``text``, which has LF alone, as it belongs into a file that held ``before``."""
    if "\r" not in text:
        text = text.replace("\n", usual_ending(before))
    return BOM + text if before.startswith(BOM) and not text.startswith(BOM) else text


class EditableText:
    """A file's text, searched and changed as it is shown: with LF alone."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._shown = with_lf(text)
        # Where each CR LF is in the shown text: every one of them shifts what follows by one.
        self._pairs: list[int] = []
        if len(self._shown) != len(text):
            found = (match.start() for match in re.finditer("\r\n", text))
            self._pairs = [at - number for number, at in enumerate(found)]

    def count(self, old: str) -> int:
        return self._shown.count(old)

    def replaced(self, old: str, new: str) -> str:
        """The file's text with every ``old`` replaced by ``new``."""
        usual = usual_ending(self._text)
        parts: list[str] = []
        done = at = 0
        while (found := self._shown.find(old, at)) >= 0:
            at = found + len(old)
            begin, end = self._position(found), self._position(at)
            endings = _ENDING.findall(self._text[begin:end])
            parts += [self._text[done:begin], _with_endings(new, endings, usual)]
            done = end
        return "".join([*parts, self._text[done:]])

    def _position(self, shown: int) -> int:
        """The place in the file's text of a place in the shown one."""
        return shown + bisect_right(self._pairs, shown - 1)


def _with_endings(text: str, endings: list[str], usual: str) -> str:
    """``text`` with ``endings`` for its first lines and ``usual`` for the rest."""
    first, *rest = text.split("\n")
    parts = [first]
    for number, line in enumerate(rest):
        ending = endings[number] if number < len(endings) else (endings[-1] if endings else usual)
        parts += [ending, line]
    return "".join(parts)
