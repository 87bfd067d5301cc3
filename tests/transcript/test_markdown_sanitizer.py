"""Untrusted Markdown stays in its quote and does nothing, whatever it is and whoever renders it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from html.parser import HTMLParser

import mistune
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from loopat_jupyter.transcript.escape import (
    CHUNK_CHARACTERS,
    clean,
    code_span,
    escape_html,
    escape_inline,
    fence,
    one_line,
    show_control_characters,
    strip_escape_sequences,
)
from loopat_jupyter.transcript.markdown_sanitizer import blockquote, sanitize

COMMONMARK = MarkdownIt("commonmark", {"html": True})
GFM = MarkdownIt("js-default", {"html": True, "linkify": False})
MISTUNE = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "footnotes"])
RENDERERS: dict[str, Callable[[str], str]] = {
    "commonmark": COMMONMARK.render,
    "gfm": GFM.render,
    "mistune": lambda text: str(MISTUNE(text)),
    "nbconvert": lambda text: str(markdown2html_mistune(text)),
}
PLAIN_TAGS = {
    "p", "blockquote", "pre", "code", "em", "strong", "ul", "ol", "li", "hr", "br", "a", "s",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "del",
    "section", "sup",
    "div", "span", "input", "dl", "dt", "dd",  # nbconvert's: highlighted code, and lists
}  # fmt: skip
AFTER = "after-the-quote"

HOSTILE = [
    "<script>alert(1)</script>",
    "text <img src=x onerror=alert(1)> text",
    "`<b>` and <b>",
    "\\`<b>`",
    "`a | <b>`\n--- | ---\nx | y",
    "`a\n<b>`",
    "```\n<script>\n",
    "- ~~~\n  ```\n  <script>\n<script>",
    "1. x\n   ```html\n   <p>\n   ```\n<p>",
    "``` a`b\n<script>\n```",
    "~~~\n```\n<b>\n~~~\n<b>",
    "<!-- never ended",
    "<![CDATA[ x",
    "<?php x",
    "<!DOCTYPE html>",
    "<details>",
    "</blockquote><script>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt&colon;alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html,x)",
    "[x](<javascript:alert(1)>)",
    "[x](https://a \"t\" onclick=x)",
    "![x](https://tracker.invalid/x.png)",
    "\\![x](https://tracker.invalid/x.png)",
    "![x]\n\n[x]: https://tracker.invalid/x.png",
    "[x]\n\n[x]: javascript:alert(1)",
    "[x]\n\n[x]:\njavascript:alert(1)",
    "<javascript:alert(1)>",
    "<https://a.invalid>",
    "# head\n\nSetext\n===",
    "> deeper\n>> <b>",
    "    indented <b>",
    "a\x1b[31mred\x1b]8;;http://x\x07link",
    "\u202egnp.exe",
    "&lt;script&gt; &amp; &#60;b&#62;",
    "<a href=\"`\">`",
    "`` ` <b> ``",
    "``x`<b>`",
    "[`x`](https://a.invalid/`<b>`)",
    "$ a `$<img src=x onerror=alert(1)>`",
    "\\$ a `$<img src=x onerror=alert(1)>$`",
    "$$\n\n```\n$$\n<img src=x onerror=alert(1)>\n```",
    "`$$`\n\n```\n$$\n<img src=x onerror=alert(1)>\n```",
    "a $x$$y$\n\n```\n$$\n<img src=x onerror=alert(1)>\n```",
    "\\begin{a}\n\n```\n\\end{a}\n<img src=x onerror=alert(1)>\n```",
    "\\\\[\n\n```\n\\\\]\n<img src=x onerror=alert(1)>\n```",
    "\\\\( `\\\\)<img src=x onerror=alert(1)>`",
    "https://a.invalid/`<img src=x onerror=alert(1)>`",
    "```mermaid\n</pre><img src=x onerror=alert(1)>\n```",
    "```mermaid-too\n</pre><img src=x onerror=alert(1)>\n```",
    "a\rb\r\nc\u2028<b>\u2029<b>\x85<b>\x0c<b>",
]  # fmt: skip


class RenderedPage(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.where_after: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("br", "hr", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if AFTER in data:
            self.where_after = list(self.open)

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", {}))

    def handle_decl(self, decl: str) -> None:
        self.tags.append(("declaration", {}))

    def handle_pi(self, data: str) -> None:
        self.tags.append(("instruction", {}))


def render_quoted(text: str, render: Callable[[str], str]) -> RenderedPage:
    page = RenderedPage()
    page.feed(render(f"{blockquote(text)}\n\n{AFTER}\n"))
    page.close()
    return page


def check(text: str) -> None:
    for name, render in RENDERERS.items():
        page = render_quoted(text, render)
        assert page.where_after == ["p"], (name, text, blockquote(text))
        for tag, attributes in page.tags:
            assert tag in PLAIN_TAGS, (name, tag, text, blockquote(text))
            assert not any(key.startswith("on") for key in attributes), (name, text)
            href = attributes.get("href") or "#"
            assert re.match(r"https?://|mailto:|#", href), (name, href, text)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_hostile_does_nothing_and_ends_with_its_quote(text: str) -> None:
    check(text)


PIECES = [
    "`", "``", "```", "~~~", "<b>", "<script>", "</p>", "<!--", "-->", "\n", "\n\n", " ", "    ",
    "|", "\\", "[x]", "](", ")", "(", "javascript:", "https://a.invalid", "!", "[", "]", "]:",
    "&", "&lt;", "&#60;", "- ", "> ", "1. ", "#", "=", "---", "x", "\t", "*", "_", "$", '"', "\r",
    ":", "<https://a>", "<img src=x onerror=y>", "\x00", "\u202e", "--- | ---", "^", "[^1]",
    "$$", "\\\\[", "\\\\]", "\\begin{a}", "\\end{a}", "mermaid",
]  # fmt: skip


@pytest.mark.slow(3)
@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_no_mixture_of_marks_gets_out(pieces: list[str]) -> None:
    check("".join(pieces))


def test_what_is_plain_stays_as_it_was() -> None:
    text = (
        "# Head\n\nSome **bold**, `code <T>` and a [link](https://a.invalid/x?a=1&b=2), a < b.\n"
        "\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nif a < b:\n    pass\n```\n"
        "\nshalom שלום and مرحبا"
    )
    assert sanitize(text) == text
    html = COMMONMARK.render(sanitize(text))
    assert '<a href="https://a.invalid/x?a=1&amp;b=2">link</a>' in html
    assert '<code class="language-python">if a &lt; b:\n    pass\n</code>' in html
    assert "<code>code &lt;T&gt;</code>" in html


def test_formulas_of_one_line_stay_and_have_no_power() -> None:
    text = "as $x^2 < y_1$ and $$\\sum_i a_i$$ show, it costs $5."
    assert sanitize(text) == text.replace("$5", "&#36;5")
    assert "\\href" not in sanitize("$\\href{javascript:alert(1)}{x}$")
    assert "&" not in sanitize("C:\\begins \\x").replace("&#", "")


@pytest.mark.parametrize("labels", [("$", "$<img src=x onerror=y>"), ("$$", "$$<img src=x>")])
def test_labels_side_by_side_stay_code(labels: tuple[str, str]) -> None:
    text = " ".join(code_span(label) for label in labels) + "\n\n" + fence("$$<img src=x>")
    for name, render in RENDERERS.items():
        assert "<img" not in render(text), name


def test_nothing_that_was_written_is_lost() -> None:
    text = "a <b>tag</b> &amp; ![pic](https://a.invalid/p.png) [bad](javascript:x) ``` x ``` `open"
    shown = re.sub(r"<[^>]+>", "", COMMONMARK.render(sanitize(text)))
    for words_ in ("&lt;b&gt;tag&lt;/b&gt;", "&amp;amp;", "!pic", "[bad](javascript:x)", "`open"):
        assert words_ in shown, words_


@pytest.mark.parametrize(
    "text", ["```", "a\n````\nb", "~~~", "`" * 50, "x\n", "", "\x1b[1mX\x1b[0m"]
)
def test_a_fence_holds_all_of_its_text(text: str) -> None:
    html = COMMONMARK.render(f"{fence(text)}\n\n{AFTER}")
    assert html.endswith(f"<p>{AFTER}</p>\n")
    inside = clean(text).removesuffix("\n")
    assert f"{inside}\n</code>" in html


@pytest.mark.parametrize("text", ["a`b", "``", "`", " x ", "<b>", "a\nb", "", "x" * 999, "\u202e"])
def test_escaped_text_stays_one_line_of_words_or_code(text: str) -> None:
    for made in (code_span(text), escape_inline(text), escape_html(text), one_line(text)):
        assert "\n" not in made
        assert len(made) < 1000
    html = COMMONMARK.render(f"**Note** {code_span(text)} {escape_inline(text)} {AFTER}")
    assert set(re.findall(r"</?(\w+)", html)) <= {"p", "strong", "code"}


@pytest.mark.slow(5)
def test_a_megabyte_of_marks_takes_no_longer_than_a_megabyte() -> None:
    for piece in (
        "`x",
        "``a`",
        "`" * 999 + " ",
        "\\`",
        "<b",
        "![",
        "](",
        "\n```\n",
        "&#",
        "\x1b]",
        "$",
        "\\",
        "$x",
    ):
        begun = time.process_time()
        blockquote(piece * (1_000_000 // len(piece)))
        assert time.process_time() - begun < 20, piece  # a second or less; squared it is hours


@pytest.mark.parametrize(
    "hostile", ["<script>x()</script>", "[a](javascript:x())", "$\\href{a}{b}$"]
)
def test_a_long_line_is_not_cut_where_two_halves_would_do_nothing_alone(hostile: str) -> None:
    for length in range(CHUNK_CHARACTERS - len(hostile), CHUNK_CHARACTERS + 1):
        text = sanitize("a" * length + hostile)
        assert "<script" not in text
        assert "](javascript" not in text
        assert "\\href" not in text


def test_a_formula_of_several_lines_stays_in_a_quote_too() -> None:
    formula = "$$\n\\begin{a}\nx < y\n\\end{a}\n$$"
    assert sanitize(f"so:\n{formula}\nthen") == f"so:\n{formula}\nthen"
    check(f"{formula}\n\n<b>")
    assert "\\href" not in sanitize("$$\n\\href{javascript:x()}{y}\n$$")


def test_what_a_program_printed_has_no_escape_sequences_and_a_line_for_each_overwritten_one() -> (
    None
):
    printed = "\x1b[31mred\x1b[0m\r\n10%\r20%\n\x1b]0;title\x07end"
    assert strip_escape_sequences(printed) == "red\n10%\n20%\nend"


def test_control_characters_are_shown_and_lines_and_tabs_stay() -> None:
    shown = show_control_characters("a\r\n\tb\x1b\x7f\x9b\u202e\ufeff\ud800")
    assert shown == "a␍\n\tb␛␡⟨9B⟩⟨U+202E⟩⟨U+FEFF⟩?"
    assert clean("a\r\nb\rc") == "a\nb␍c"
