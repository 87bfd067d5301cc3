"""Strangers' Markdown, made harmless and quoted.

What a person or an agent wrote is Markdown and should be read as such, wherever the document is
shown; renderers differ, so nothing here relies on how one of them reads a difficult case:

* it stands in a block quote, which ends whatever was left open in it;
* its fences are taken apart and written anew with our own; no other fence is left standing;
* outside of code nothing can begin a tag, an entity, a picture, or the definition of a link, and a
  link leads to the web or nowhere;
* a code span begins and ends in one line, and no other backtick is left standing;
* a formula begins and ends in one line too, between two code spans, and no other mark of one is
  left standing: some renderers look for formulas first, and one that ended in code would open it.
  None of its commands makes a link or loads anything;
* no fence is of a language that a renderer runs instead of showing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .chunks import map_chunks
from .escape import clean, code_html, fence

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([^`\n]*)$")
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,30}")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?[A-Za-z0-9]+;)")
_LINK = re.compile(r'\]\((?!(?:https?://|mailto:|#)[^\s()<>\\`|]*(?:[ ]"[^"\\`|]*")?\))')
_WAVES = re.compile(r"~{3,}")
_TICKS = re.compile(r"`+")
_RUN = re.compile(r"mermaid|math$", re.IGNORECASE)
_FORMULA = re.compile(r"(?<![\\$])(\${1,2})(?![$\s])[^$\n]+(?<![\\$\s])\1(?!\$)")
_DOLLAR = re.compile(r"(?<!\\)(\\*)\$")
_OTHER_MATHS = re.compile(
    r"(?<!\\)(?:\\{2,}(?=[\[(])|\\+(?=(?:begin|href|url|class|style|cssId|require|html[A-Za-z]*|"
    r"unicode|includegraphics|input|def|let|csname|(?:re)?new(?:command|environment))"
    r"(?![A-Za-z]))|\\\Z)"
)


def blockquote(text: str) -> str:
    """``text`` as a block quote."""
    lines = sanitize(text).split("\n")
    return "\n".join(f"> {line}".rstrip() for line in lines)


def sanitize(text: str) -> str:
    """``text`` as Markdown that stays what it looks like."""
    blocks: list[str] = []
    lines = iter(clean(text).strip("\n").split("\n"))
    prose: list[str] = []
    for line in lines:
        opened = _FENCE.match(line)
        if opened is None:
            prose.append(_line(line))
            continue
        if prose:
            blocks.append("\n".join(prose))
            prose = []
        blocks.append(_code(lines, line, opened[1], opened[2]))
    if prose:
        blocks.append("\n".join(prose))
    return "\n\n".join(block.strip("\n") for block in blocks)


def _code(lines: Iterator[str], line: str, ticks: str, info: str) -> str:
    """Takes the lines of a fence; one that is never closed goes to the end."""
    indent = len(line) - len(line.lstrip())
    ending = re.compile(rf"[ \t]*{re.escape(ticks[0])}{{{len(ticks)},}}[ \t]*$")
    code: list[str] = []
    for found in lines:
        if ending.match(found):
            break
        code.append(found[min(indent, len(found) - len(found.lstrip())) :])
    language = _LANGUAGE.match(info)
    shown = language is not None and not _RUN.match(language[0])
    return fence("\n".join(code), language[0] if language and shown else "")


def _line(line: str) -> str:
    """One line outside of fences: its code spans, and the rest."""
    made: list[str] = []
    place = 0
    while (run := _TICKS.search(line, place)) is not None:
        made.append(map_chunks(_prose, line[place : run.start()]))
        end = _end_of_span(line, run)
        if end is None:
            made.append("&#96;" * len(run[0]))
            place = run.end()
        else:
            ticks = len(run[0])
            glued = run.start() > 0 and not line[run.start() - 1].isspace()
            held = code_html(line[run.end() : end - ticks], glued=glued)
            made.append(line[run.start() : end] if held is None else held)
            place = end
    made.append(map_chunks(_prose, line[place:]))
    return "".join(made)


def _end_of_span(line: str, opening: re.Match[str]) -> int | None:
    """Where the span that begins there ends, if it is one that every renderer sees."""
    if len(opening[0]) > 2 or line[max(0, opening.start() - 1)] == "\\":
        return None
    for run in _TICKS.finditer(line, opening.end()):
        if len(run[0]) == len(opening[0]):
            inside = line[opening.end() : run.start()]
            return None if "|" in inside else run.end()
    return None


def _prose(text: str) -> str:
    text = _ENTITY.sub("&amp;", text)
    text = _TAG.sub("&lt;", text)
    text = text.replace("![", "&#33;[").replace("]:", "&#93;:")
    text = _LINK.sub("&#93;(", text)
    text = _WAVES.sub(lambda found: "&#126;" * len(found[0]), text)
    return _maths(text)


def _maths(text: str) -> str:
    text = _OTHER_MATHS.sub(lambda found: "&#92;" * len(found[0]), text)
    made: list[str] = []
    place = 0
    for formula in _FORMULA.finditer(text):
        made += _DOLLAR.sub(_as_reference, text[place : formula.start()]), formula[0]
        place = formula.end()
    return "".join([*made, _DOLLAR.sub(_as_reference, text[place:])])


def _as_reference(dollar: re.Match[str]) -> str:
    escapes = len(dollar[1])
    return "\\" * (escapes - escapes % 2) + "&#36;"
