"""Escaping of untrusted text: for a terminal, for one line of Markdown or HTML, for a code block.

A terminal obeys control characters: escape sequences recolour, retitle, or overwrite what a person
is about to confirm, and direction marks show a command in another order than it runs.
:func:`show_control_characters` makes each of them visible instead of effective, and everything else
here builds on it.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterator
from typing import Any

LINE_LIMIT = 200
"""Characters of untrusted text within a line of ours."""
CHUNK_CHARACTERS = 16 << 10

_CONTROL_PICTURES = 0x2400
_BIDIRECTIONAL = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_VISIBLE = {c: chr(_CONTROL_PICTURES + c) for c in range(0x20) if chr(c) not in "\n\t"}
_VISIBLE |= {0x7F: "\N{SYMBOL FOR DELETE}"}
_VISIBLE |= {c: f"⟨{c:02X}⟩" for c in range(0x80, 0xA0)}
_VISIBLE |= {c: f"⟨U+{c:04X}⟩" for c in (*_BIDIRECTIONAL, 0x2028, 0x2029, 0xFEFF)}

_ESCAPE_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC: titles, links
    r"|[ -/]*[0-~])"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
_BACKTICKS = re.compile(r"`+")
_REFERENCES = {ord(c): f"&#{ord(c)};" for c in string.punctuation if c not in ".,-/=+%'?(){};"}
"""Character references for every mark that means something in Markdown, in HTML or in a formula.
The marks that are left mean nothing within a line where these are escaped."""
FORMULA_COMMAND = re.compile(
    r"\\(?=(?:href|url|class|style|cssId|require|html[A-Za-z]*|unicode|includegraphics|input|def|"
    r"let|csname|(?:re)?new(?:command|environment))(?![A-Za-z]))"
)
"""Commands with which a formula makes a link, sets attributes, or loads or redefines something."""
ACTIVE = re.compile(
    rf"<(?=[A-Za-z/!?])|\]\(|!\[|^[ \t>]*\[[^\]\n]*\]:|{FORMULA_COMMAND.pattern}", re.MULTILINE
)
"""What would be a tag, a link, an image, a link definition or such a command outside of code."""
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,30}")
_EXECUTED = re.compile(r"mermaid|math$", re.IGNORECASE)
"""Languages of a code block that a renderer runs instead of showing them; nbconvert takes all that
begin with ``mermaid`` for it."""


def show_control_characters(text: str) -> str:
    """``text`` with each control character and direction mark replaced by a visible symbol.

    Newlines and tabs stay. Lone surrogates, which no encoding can write, become ``?``.
    """
    return text.translate(_VISIBLE).encode("utf-8", "replace").decode("utf-8")


def clean(text: str) -> str:
    """:func:`show_control_characters` of ``text``; a carriage return before a newline goes."""
    return show_control_characters(text.replace("\r\n", "\n"))


def strip_escape_sequences(text: str) -> str:
    """What a program printed for a terminal, without colours, titles and cursor movements.

    A carriage return, with which progress bars overwrite a line, begins a new one.
    """
    text = map_chunks(lambda chunk: _ESCAPE_SEQUENCE.sub("", chunk), text)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def map_chunks(change: Callable[[str], str], text: str) -> str:
    """``change`` of ``text``, a chunk of lines at a time.

    A regular expression holds the interpreter lock from the beginning of its text to the end,
    whichever thread it runs in: a megabyte at once would stop the whole server for a moment.
    """
    return "".join(map(change, _chunks(text)))


def _chunks(text: str) -> Iterator[str]:
    # Only line ends: a cut within a line could separate what a pattern must see together, such as
    # the two halves of a token, or a "<" and the name of its tag.
    start = 0
    while len(text) - start > CHUNK_CHARACTERS:
        end = text.rfind("\n", start, start + CHUNK_CHARACTERS) + 1
        end = end or text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end
    yield text[start:]


def one_line(text: str, limit: int | None = None) -> str:
    """``text`` in one line, of at most ``limit`` characters where there is one."""
    line = " ".join(clean(text).split())
    return line if limit is None or len(line) <= limit else f"{line[: max(0, limit - 1)]}…"


def truncate_middle(text: str, limit: int) -> str:
    """The head and the tail of a longer text, about ``limit`` characters, and how many are left
    out between them."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit // 2], text[len(text) - limit // 2 :]
    return f"{head}\n[… {len(text) - len(head) - len(tail)} characters left out …]\n{tail}"


def fence(text: str, language: str = "text", *, escape_code: bool = False) -> str:
    """``text`` as a code block that nothing in it can end.

    It always has an info string, so that its first line can be no renderer's end of another block.
    ``escape_code``: text with anything :data:`ACTIVE` in it becomes a ``<pre>`` of character
    references instead, for a renderer that might take the block for something else than code.
    """
    text = clean(text).removesuffix("\n")
    if escape_code and ACTIVE.search(text):
        return f"<pre><code>{text.translate(_REFERENCES)}</code></pre>"
    ticks = "`" * max(3, longest_backticks(text) + 1)
    is_shown = _LANGUAGE.fullmatch(language) and not _EXECUTED.match(language)
    return f"{ticks}{language if is_shown else 'text'}\n{text}\n{ticks}"


def longest_backticks(text: str) -> int:
    """The length of the longest run of backticks."""
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)


def code_html(code: str) -> str:
    """``code``, one line without control characters, as HTML that no renderer reads as Markdown."""
    return f"<code>{code.translate(_REFERENCES)}</code>"


_PLAIN_CODE = re.compile(r"(?!.*(?:\]\(|\]:|!\[))[^<\\`$\n]*")


def is_plain_code(code: str) -> bool:
    """Whether ``code`` stays harmless where a renderer does not see that it is code."""
    return _PLAIN_CODE.fullmatch(code) is not None


def code_span(text: str, limit: int = LINE_LIMIT) -> str:
    """``text`` in one line of at most ``limit`` characters, as code; empty for empty text."""
    line = one_line(text, limit)
    if not line:
        return ""
    return f"`{line}`" if is_plain_code(line) else code_html(line)


def escape_inline(text: str, limit: int | None = LINE_LIMIT) -> str:
    """``text`` in one line, in which nothing is Markdown; backslashes keep the source readable."""
    line = FORMULA_COMMAND.sub(r"\\ ", one_line(text, limit))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+.!|~$:-])", r"\\\1", line)


def escape_html(text: str, limit: int | None = LINE_LIMIT) -> str:
    """``text`` in one line, in which nothing is HTML or Markdown, for either of them."""
    return FORMULA_COMMAND.sub(r"\\ ", one_line(text, limit)).translate(_REFERENCES)


def pretty(value: Any) -> str:
    """A JSON value, indented; a string stays as it is."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)
