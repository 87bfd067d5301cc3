"""Strangers' text where it stands for itself: in a fence, in a code span, in one line of ours."""

from __future__ import annotations

import html
import json
import re
from typing import Any

from .chunks import map_chunks

LIMIT = 10_000
"""Characters of one input or result in a document for people."""
LINE_LIMIT = 200

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles, links, strings
    r"|[ -/]*[0-~])"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_TICKS = re.compile(r"`+")
_MATHS = re.compile(r"\$|\\\\[\[(]|\\begin(?![A-Za-z])")
_POWER = re.compile(r"<|\]\(|\]:|!\[")
_REFERRED = {ord(c): f"&#{ord(c)};" for c in '<>&[]()!`$\\|*_~:"'}


def clean(text: str) -> str:
    """``text`` without power over a terminal or over the order of what is read.

    Escape sequences go, line ends become ``\\n``, and marks that turn the direction of writing
    are spelled out, so that nothing reads otherwise than it is.
    """
    return map_chunks(_clean, text)


def _clean(text: str) -> str:
    text = _ESCAPES.sub("", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n")
    text = text.replace("\u2029", "\n").replace("\x85", "\n")
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    return _TURNING.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """``text`` in one line, shortened."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def capped(text: str, limit: int = LIMIT) -> str:
    """The head and the tail of a long text."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def fence(text: str, language: str = "text") -> str:
    """A code block that nothing in ``text`` can end."""
    text = clean(text).removesuffix("\n")
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"


def code_html(code: str, *, glued: bool = False) -> str | None:
    """Code within a line that ticks do not hold; ``None``: they do.

    Some renderers look for formulas, and for addresses (``glued``: something stands right before
    the span), before they look for code; what is left of it would be read as Markdown.
    """
    loose = _MATHS.search(code) or (glued and _POWER.search(code))
    return f"<code>{code.translate(_REFERRED)}</code>" if loose else None


def code_span(text: str) -> str:
    """``text`` in one line, as code."""
    line = one_line(text) or " "
    if (held := code_html(line)) is not None:
        return held
    longest = max((len(run) for run in _TICKS.findall(line)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def escape_inline(text: str) -> str:
    """``text`` in one line, as mere words in Markdown."""
    line = html.escape(one_line(text), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+.!|~$:-])", r"\\\1", line)


def escape_html(text: str) -> str:
    """``text`` in one line, between two tags."""
    return html.escape(one_line(text))


def pretty(value: Any) -> str:
    """A JSON value for people; a string stays as it is."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2)
