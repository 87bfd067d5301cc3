"""Foreign text as Markdown that shows, but does nothing, wherever a notebook is opened.

A Markdown output is rendered by whatever opens the file: JupyterLab (which does not sanitise the
outputs of a trusted notebook), nbconvert (which does not sanitise at all), a forge. So nothing
may be left to the renderer's good will. :func:`safe_markdown` keeps an agent's headings, lists,
tables, emphasis, code and formulas, and takes the power from the rest:

- no HTML: no ``<`` is left that could begin a tag, but those of ``<code>`` and ``<pre>``
- no link but to ``http``, ``https`` and ``mailto``; no reference definition
- no image: showing one would send its address, with whatever is in it, to its host
- no control character, no mark that shows a text in another order than it has
- no command of a formula that makes links or loads things

Renderers differ in what they take for code or for a formula, and what one takes for code another
might run. So nothing with any power is left anywhere, in code neither: a block of code that holds
such a thing becomes a ``<pre>`` of character references, a code span a ``<code>``. Other code stays
in fences that all renderers read alike: at the beginning of a line after an empty one, longer than
any run of ticks inside, and always with an info string (so none can be taken for the end of
another).

Everything is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_CONTROL_PICTURES = 0x2400
_REORDERING = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SHOWN = {c: chr(_CONTROL_PICTURES + c) for c in range(0x20) if chr(c) not in "\n\t"}
_SHOWN |= {0x7F: "\u2421"}
_SHOWN |= {c: f"⟨{c:02X}⟩" for c in range(0x80, 0xA0)}
_SHOWN |= {c: f"⟨U+{c:04X}⟩" for c in (*_REORDERING, 0x2028, 0x2029, 0xFEFF)}

_FENCE = re.compile(
    r"(?P<lead>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(?P<fence>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)"
)
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,30}")
_NOT_SHOWN_AS_CODE = re.compile(r"mermaid|math$", re.IGNORECASE)
"""Info strings for which a renderer runs what stands in the fence instead of showing it. Whatever
begins with ``mermaid`` is that to nbconvert."""
_PLAIN_CODE = re.compile(r"(?!.*(?:\]\(|\]:|!\[))[^<\\`$\n]*")
_TICKS = re.compile(r"`+")
_MARK = re.compile(
    r"\\?`+|\\?\${2,}|\\(?=[A-Za-z])|\\\\[\[(]|\\?<(?=[A-Za-z/!?])|\\?!\[|\]\(|\]:", re.DOTALL
)
_FORMULA = re.compile(
    r"(?<![\\$])\$\$(?!\$)[^$`\n]+(?<!\\)\$\$(?!\$)"
    r"|^ {0,3}\$\$[ \t]*\n(?:(?![ \t]*\n)[^$`\n]+\n)+ {0,3}\$\$[ \t]*$",
    re.MULTILINE,
)
"""A displayed formula that every renderer sees as one, from its beginning to its end. All other
marks that could begin one are taken away: it might end inside of code, and show that as HTML."""
_LINK = re.compile(r"\]\(\s*(?:https?://|mailto:)", re.IGNORECASE)
_COMMAND = re.compile(
    r"\\(?=(?:href|url|class|style|cssId|require|html\w*|unicode|includegraphics|input|def|let|"
    r"csname|newcommand|renewcommand|newenvironment|renewenvironment)(?![A-Za-z]))"
)
_POWER = re.compile(
    rf"<(?=[A-Za-z/!?])|\]\(|!\[|^[ \t>]*\[[^\]\n]*\]:|{_COMMAND.pattern}", re.MULTILINE
)
"""What would do something, were it not in code."""
_REFERRED = {ord(c): f"&#{ord(c)};" for c in "<>&[]()!`$\\|\n"} | {ord("\n"): "\n"}
_BEGIN = re.compile(r"\\begin(?![A-Za-z])")


def plain_text(text: str) -> str:
    """``text`` with every control character and direction mark made visible; lines stay."""
    lines = text.replace("\r\n", "\n")
    return lines.translate(_SHOWN).encode("utf-8", "replace").decode("utf-8")


def shortened(text: str, limit: int) -> str:
    """At most about ``limit`` characters of ``text``: its head and its tail, and what is missing
    said between them."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit // 2], text[len(text) - limit // 2 :]
    return f"{head}\n\n… ({len(text) - limit} characters left out)\n\n{tail}"


def safe_markdown(text: str) -> str:
    """``text``, written in Markdown by somebody who is not trusted, for a Markdown output."""
    parts: list[str] = []
    for kind, lines, info in _blocks(plain_text(text).split("\n")):
        body = "\n".join(lines)
        parts.append(fenced(body, info) if kind == "code" else _prose(body))
    return "\n".join(parts)


def fenced(text: str, language: str = "") -> str:
    """``text`` as a block of code, whatever is in it, with empty lines around."""
    body = plain_text(text)
    if _POWER.search(body):
        return f"\n<pre><code>{body.translate(_REFERRED)}</code></pre>\n"
    longest = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    named = _LANGUAGE.fullmatch(language) and not _NOT_SHOWN_AS_CODE.match(language)
    return f"\n{fence}{language if named else 'text'}\n{body}\n{fence}\n"


def code_span(text: str, limit: int = 200) -> str:
    """``text`` as code within a line, cut to ``limit`` characters; empty where there is none."""
    flat = " ".join(plain_text(text).split())
    flat = flat if len(flat) <= limit else flat[: limit - 1] + "…"
    return f"<code>{_references(flat)}</code>" if flat else ""


def words(text: str, limit: int = 1000) -> str:
    """``text`` as plain words within a line: nothing in it is Markdown."""
    flat = " ".join(plain_text(text).split())
    return _references(flat if len(flat) <= limit else flat[: limit - 1] + "…")


_LEFT = frozenset(" .,…-/=+%'?(){};")
"""Marks that mean nothing within a line where all others are character references."""


def _references(text: str) -> str:
    return "".join(c if c.isalnum() or c in _LEFT else f"&#{ord(c)};" for c in text)


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str], str]]:
    """The text cut into stretches of prose and of fenced code (without their fences)."""
    held: list[str] = []
    opened: re.Match[str] | None = None
    for line in lines:
        found = _FENCE.fullmatch(line)
        if opened is None and found is None:
            held.append(line)
        elif opened is None and found is not None:
            marker = found["lead"].rstrip()
            yield "prose", [*held, marker] if marker else held, ""
            held, opened = [], found
        elif opened is not None and _closes(line, opened["fence"]):
            yield "code", held, _info(opened)
            held, opened = [], None
        elif opened is not None:
            held.append(_dedented(line, len(opened["lead"])))
    if opened is not None:
        yield "code", held, _info(opened)
    elif held:
        yield "prose", held, ""


def _closes(line: str, fence: str) -> bool:
    bare = line.strip(" \t")
    return len(bare) >= len(fence) and not bare.strip(fence[0])


def _info(opened: re.Match[str]) -> str:
    named = opened["info"].split()
    return named[0] if named else ""


def _dedented(line: str, width: int) -> str:
    kept = line.lstrip(" ")
    return line[min(len(line) - len(kept), width) :]


def _prose(text: str) -> str:
    """Text between fences. What is not touched means nothing to anybody but typography."""
    parts: list[str] = []
    at = 0
    for found in _FORMULA.finditer(text):
        parts += _line_marks(text[at : found.start()]), _formula(found[0])
        at = found.end()
    return "".join([*parts, _line_marks(text[at:])])


def _formula(text: str) -> str:
    """A formula is no Markdown to one renderer and nothing else to another: blanks, which mean
    nothing to it, take the power from both."""
    text = re.sub(r"<(?=[A-Za-z/!?])", r"\\lt ", text)
    text = re.sub(r"\](?=[(:\[])|!(?=\[)", r"\g<0> ", text)
    return _COMMAND.sub(r"\\ ", text)


def _line_marks(text: str) -> str:
    ends = _span_ends(text)
    parts: list[str] = []
    at = 0
    while (found := _MARK.search(text, at)) is not None:
        parts.append(text[at : found.start()])
        mark, at = found[0], found.end()
        if mark.startswith("`") and (end := ends.get(found.start())) is not None:
            parts.append(_span(text, found.start(), end, len(mark)))
            at = end
        elif mark.endswith("$$"):
            parts.append("&#36;" * len(mark.lstrip("\\")))
        elif mark == "\\":
            at_word = found.start()
            power = _COMMAND.match(text, at_word) or _BEGIN.match(text, at_word)
            parts.append("\\ " if power else mark)
        elif mark == "](":
            parts.append(mark if _LINK.match(text, found.start()) else "]&#40;")
        else:
            parts.append(_INERT.get(mark.lstrip("\\"), mark))
    parts.append(text[at:])
    return "".join(parts)


_INERT = {"[": "&#92;&#92;[", "(": "&#92;&#92;(", "<": "&lt;", "![": "&#33;[", "]:": "]&#58;"}


def _span_ends(text: str) -> dict[int, int]:
    """Where the code span that begins at a run of ticks ends: the next run of the same length in
    the same paragraph."""
    ends: dict[int, int] = {}
    start = 0
    for paragraph in re.split(r"(\n[ \t]*\n)", text):
        waiting: dict[int, int] = {}
        for run in reversed(list(_TICKS.finditer(paragraph))):
            length = len(run[0])
            if length in waiting:
                ends[start + run.start()] = waiting[length]
            waiting[length] = start + run.end()
        start += len(paragraph)
    return ends


def _span(text: str, start: int, end: int, ticks: int) -> str:
    content = text[start + ticks : end - ticks]
    if _PLAIN_CODE.fullmatch(content):
        return text[start:end]
    return f"<code>{_references(content.strip().replace(chr(10), ' '))}</code>"
