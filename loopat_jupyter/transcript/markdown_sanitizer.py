"""Markdown of an agent or a person, made safe to show wherever a document or notebook is opened.

It is Markdown and should be read as such: headings, lists, tables, emphasis, code and formulas
stay. But a Markdown output is rendered by whatever opens the file: JupyterLab (which does not
sanitise the outputs of a trusted notebook), nbconvert (which does not sanitise at all), a forge.
Renderers differ in what they take for code or for a formula, and what one takes for code another
might obey. So nothing here relies on how one of them reads a difficult case:

* no control character, and no mark that shows text in another order than it has
* fences are parsed and written anew (:func:`~.escape.fence`), with blank lines around; no other
  fence is left. None is of a language that a renderer runs instead of showing it
* outside of code nothing can begin a tag, an entity, an image, or the definition of a link, and a
  link leads to ``http``, ``https`` or ``mailto`` or is none
* a code span begins and ends in one line, and no other backtick is left
* a formula begins and ends in one line too, between two code spans, or is a block of lines between
  two lines of ``$$``; no other mark of a formula is left, since some renderers look for formulas
  before they look for code, and one that ended in code would open it. No command of a formula can
  make a link or load anything; a space in the command breaks it, because MathJax sees a page after
  the browser has resolved character references

``escape_code`` takes the last chance from a renderer that disagrees about what is code: code in
which anything would be active becomes HTML of character references.

This is a grammar of regular expressions, not a Markdown parser with a writer, because the parser
would decide by CommonMark what is code, and mistune, GitHub and JupyterLab's formula scanner decide
differently: the result would have to be escaped for all of them anyway. Everything is linear in the
length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .escape import FORMULA_COMMAND, clean, code_html, fence, is_plain_code

_FENCE = re.compile(
    r"(?P<lead>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)"
)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?[A-Za-z0-9]+;)")
_LINK = re.compile(r'\]\((?!(?:https?://|mailto:|#)[^\s()<>\\`|]*(?:[ ]"[^"\\`|]*")?\))')
_TILDES = re.compile(r"~{3,}")
_BACKTICKS = re.compile(r"`+")
_FORMULA_START = re.compile(r"\$|\\\\[\[(]|\\begin(?![A-Za-z])")
_LINK_LIKE = re.compile(r"<|\]\(|\]:|!\[")
_FORMULA = re.compile(r"(?<![\\$])(\${1,2})(?![$\s])[^$\n]+(?<![\\$\s])\1(?!\$)")
_FORMULA_BLOCK = re.compile(
    r"^ {0,3}\$\$[ \t]*\n(?:(?![ \t]*\n)[^$`\n]+\n)+ {0,3}\$\$[ \t]*$", re.MULTILINE
)
_DOLLAR = re.compile(r"(?<!\\)(\\*)\$")
_OTHER_FORMULA_MARKS = re.compile(r"(?<!\\)(?:\\{2,}(?=[\[(])|\\+(?=begin(?![A-Za-z]))|\\\Z)")


def blockquote(text: str, *, escape_code: bool = False) -> str:
    """``text`` as a block quote, which ends whatever is left open in it."""
    lines = sanitize(text, escape_code=escape_code).split("\n")
    return "\n".join(f"> {line}".rstrip() for line in lines)


def sanitize(text: str, *, escape_code: bool = False) -> str:
    """``text``, Markdown of somebody who is not trusted, as Markdown that can do nothing.

    ``escape_code``: code that holds a tag, a link or the like becomes HTML of character references
    (see the module). Needed where the result is not in a block quote.
    """
    blocks: list[str] = []
    lines = iter(clean(text).strip("\n").split("\n"))
    prose: list[str] = []
    for line in lines:
        opening = _FENCE.fullmatch(line)
        if opening is None:
            prose.append(line)
            continue
        if marker := opening["lead"].rstrip():
            prose.append(marker)
        blocks += _prose(prose, escape_code), _code(lines, opening, escape_code)
        prose = []
    blocks.append(_prose(prose, escape_code))
    return "\n\n".join(block for block in (b.strip("\n") for b in blocks) if block)


def _code(lines: Iterator[str], opening: re.Match[str], escape_code: bool) -> str:
    """Takes the lines of a fenced block from ``lines``; one that is never closed goes to the
    end."""
    mark, indent = opening["fence"], len(opening["lead"])
    code: list[str] = []
    for line in lines:
        bare = line.strip(" \t")
        if len(bare) >= len(mark) and not bare.strip(mark[0]):
            break
        code.append(line[min(indent, len(line) - len(line.lstrip())) :])
    info = opening["info"].split()
    return fence("\n".join(code), info[0] if info else "text", escape_code=escape_code)


def _prose(lines: list[str], escape_code: bool) -> str:
    """Lines outside of fences: formulas of several lines, and the lines around them."""
    text = "\n".join(lines)
    parts: list[str] = []
    place = 0
    for found in _FORMULA_BLOCK.finditer(text):
        parts += _lines(text[place : found.start()], escape_code), _formula_block(found[0])
        place = found.end()
    return "".join([*parts, _lines(text[place:], escape_code)])


def _formula_block(text: str) -> str:
    """A displayed formula. One renderer reads it as such, another as Markdown: spaces, which mean
    nothing in a formula, take the effect from both readings."""
    text = _TAG.sub(r"\\lt ", text)
    text = _ENTITY.sub("& ", text)
    text = re.sub(r"\](?=[(:\[])|!(?=\[)", r"\g<0> ", text)
    return FORMULA_COMMAND.sub(r"\\ ", text)


def _lines(text: str, escape_code: bool) -> str:
    return "\n".join(_line(line, escape_code) for line in text.split("\n"))


def _line(line: str, escape_code: bool) -> str:
    """One line: its code spans, and the text between them."""
    parts: list[str] = []
    place = 0
    while (run := _BACKTICKS.search(line, place)) is not None:
        parts.append(_inline(line[place : run.start()]))
        end = _end_of_span(line, run)
        if end is None:
            parts.append("&#96;" * len(run[0]))
            place = run.end()
        else:
            parts.append(_span(line, run, end, escape_code))
            place = end
    return "".join([*parts, _inline(line[place:])])


def _end_of_span(line: str, opening: re.Match[str]) -> int | None:
    """Where the code span that begins there ends, if it is one for every renderer."""
    if len(opening[0]) > 2 or line[max(0, opening.start() - 1)] == "\\":
        return None
    for run in _BACKTICKS.finditer(line, opening.end()):
        if len(run[0]) == len(opening[0]):
            inside = line[opening.end() : run.start()]
            return None if "|" in inside else run.end()
    return None


def _span(line: str, opening: re.Match[str], end: int, escape_code: bool) -> str:
    code = line[opening.end() : end - len(opening[0])]
    # Some renderers look for formulas before they look for code, and for an address where
    # something stands right before the span.
    is_glued = opening.start() > 0 and not line[opening.start() - 1].isspace()
    is_loose = _FORMULA_START.search(code) or (is_glued and _LINK_LIKE.search(code))
    if is_loose or (escape_code and not is_plain_code(code)):
        return code_html(code.strip())
    return line[opening.start() : end]


def _inline(text: str) -> str:
    """Text of one line without code."""
    text = _ENTITY.sub("&amp;", text)
    text = _TAG.sub("&lt;", text)
    text = text.replace("![", "&#33;[").replace("]:", "&#93;:")
    text = _LINK.sub("&#93;(", text)
    text = _TILDES.sub(lambda found: "&#126;" * len(found[0]), text)
    text = FORMULA_COMMAND.sub(r"\\ ", text)
    return _formula_marks(text)


def _formula_marks(text: str) -> str:
    text = _OTHER_FORMULA_MARKS.sub(lambda found: "&#92;" * len(found[0]), text)
    parts: list[str] = []
    place = 0
    for formula in _FORMULA.finditer(text):
        parts += _DOLLAR.sub(_dollar_reference, text[place : formula.start()]), formula[0]
        place = formula.end()
    return "".join([*parts, _DOLLAR.sub(_dollar_reference, text[place:])])


def _dollar_reference(dollar: re.Match[str]) -> str:
    escapes = len(dollar[1])
    return "\\" * (escapes - escapes % 2) + "&#36;"
