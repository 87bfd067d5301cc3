"""Untrusted text in a Markdown output does nothing, whoever renders it, and stays readable."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from loopat_jupyter.client import AssistantDelta, TurnResult
from loopat_jupyter.transcript.escape import code_span, escape_html, fence, truncate_middle
from loopat_jupyter.transcript.markdown_sanitizer import sanitize

ALLOWED_TAGS = {
    "p", "em", "strong", "del", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote",
    "code", "pre", "hr", "br", "a", "table", "thead", "tbody", "tr", "th", "td", "div", "span",
    "input", "s",
}  # fmt: skip
ATTRIBUTES = {
    "class", "href", "start", "style", "id", "type", "disabled", "checked", "align", "title"
}  # fmt: skip
HOSTILE = [
    "<script>x()</script>",
    "<img src=x onerror=x()>",
    "`<b>`\n<b onclick=x()>",
    "[a](javascript:x())",
    "[a](&#106;avascript:x())",
    "[a]( \n javascript:x())",
    "[a]: javascript:x()\n[a]",
    "![a](https://e.example/?secret)",
    "<https://e.example/>",
    "\\<script>x()</script>",
    "~~~\n</pre><script>\n~~~",
    "```\n</pre><script>",
    "> ```\n<script>x()</script>",
    "- ```\n  a\n<script>\n  ```\n<script>",
    "`` ` ``<script>``",
    "`a\n` [x](javascript:x()) `",
    "\\` [x](javascript:x()) `",
    "$$\n```\n<script>x()</script>\n$$\n```\n<script>",
    "$\\href{javascript:x()}{y}$",
    "\\begin{equation}\\href{javascript:x()}{y}\\end{equation}",
    "    <script>x()</script>",
    "<details open ontoggle=x()>",
    "<!-- --><script>",
    "a\rb\x1b]0;title\x07\u202egnp.exe\u202c\u2028<b>",
    "```mermaid\nclick A href javascript:x()\n```",
    "|a|b|\n|-|-|\n|`|<script>|`|",
    "[^1]\n\n[^1]: <script>",
    "</code></pre></div><script>",
    "&lt;script&gt;",
    "\\$$ x $$\n```\n<script>x()</script>\n$$\n```\n$$",
    "$$ [a](javascript:x()) ![a](https://e.example) <b> $$",
    "\\begin{a}\n```\n<script>\n\\end{a}\n```",
    "a \\\\[\n```\n<script>\n\\\\]\n```",
    "[x][y]\n\n[y]: data:text/html,<script>",
    "<a\nhref=javascript:x()>",
]


class InertPage(HTMLParser):
    """Fails at every tag and attribute that could do something."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED_TAGS, f"<{tag}>"
        for name, value in attrs:
            assert name in ATTRIBUTES, f"<{tag} {name}>"
            if name == "href":
                assert (value or "").startswith(("http://", "https://", "mailto:", "#")), value

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"<!--{data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"<!{decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"<?{data}")


def sanitized(text: str) -> str:
    return sanitize(text, escape_code=True)


ACTIVE = re.compile(r"<(?=[A-Za-z/!?])|!\[|\]\((?!\s*(?:https?://|mailto:))|\\(?:href|class)")


def assert_inert(markdown: str) -> None:
    ours = re.sub(r"</?(?:pre|code|details|summary|b)>", " ", markdown)
    assert not ACTIVE.search(ours), ACTIVE.search(ours)
    commonmark = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for render in (commonmark.render, markdown2html_mistune):
        page = render(markdown)
        InertPage(convert_charrefs=True).feed(page)
        assert "\x1b" not in page
        assert "\u202e" not in page


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_known_to_be_hostile(text: str):
    for around in ("{}", "a `b` {} `c`", "```py\nx\n```\n{}", "1. a\n   {}\n", "| {} |"):
        assert_inert(sanitized(around.format(text)))


PIECES = st.sampled_from([
    *HOSTILE, "`", "``", "```", "~~~", "\n", "\n\n", "    ", "> ", "- ", "1. ", "\\", "$", "$$",
    "\n$$\n", "|", "<b>", "</b>", "<", "[a]", "](", "]:", "javascript:x()", "![", "a", " ", "\t",
    "&#60;", "*", "_", "\u00a0", "\x0b", "\x85", "#",
])  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_combination_begins_a_tag_or_leads_anywhere(text: str):
    assert_inert(sanitized(text))


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join))
def test_code_and_words_hold_whatever_is_in_them(text: str):
    block = fence(text, text, escape_code=True)
    assert_inert(f"{escape_html(text)} {code_span(text)}\n\n{block}\n<b>".removesuffix("<b>"))
    page = MarkdownIt("commonmark").render(fence(text, escape_code=True))
    assert page.startswith("<pre><code")
    assert page.rstrip("\n").endswith("</code></pre>")


def test_commands_of_formulas_are_broken():
    for text in (
        "$\\href{javascript:x()}{y}$",
        "\\begin{align}\\class{a}{b}\\end{align}",
        "$$\\href{a}{b}$$",
    ):
        assert "\\href" not in sanitized(text)
        assert "\\class" not in sanitized(text)
    displayed = "$$\n\\begin{a}\nx\n\\end{a}\n$$"
    for text in ("$\\alpha < \\beta$", "$$x^2$$", displayed):
        assert sanitized(text) == text
    assert MarkdownIt().render(sanitized("$5 and $6")) == "<p>$5 and $6</p>\n"


def test_what_people_write_stays():
    text = (
        "# Title\n\nSome *words* and `code()` and [a link](https://example.org).\n\n"
        "- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    )
    assert sanitized(text) == text
    page = MarkdownIt().render(sanitized("1. do:\n   ```bash\n   ls < dir\n   ```\n2. `a<b>`"))
    assert '<code class="language-bash">ls &lt; dir\n</code>' in page
    assert '<ol start="2">' in page
    assert "<code>a&lt;b&gt;</code>" in page or "a&amp;" not in page


def test_it_is_linear():
    for piece in ("`", "](", "[", "<", "```\n", "$$", "- ", "\\", "> ", "~~~ x\n", " "):
        began = time.perf_counter()
        sanitized(piece * 30_000)
        small = time.perf_counter() - began
        assert small < 5, piece


def test_a_long_text_says_what_is_missing():
    assert truncate_middle("abc", 3) == "abc"
    text = truncate_middle("a" * 50 + "b" * 50, 10)
    assert text.startswith("aaaaa\n")
    assert text.endswith("\nbbbbb")
    assert "90 characters left out" in text


def test_a_result_shown_by_a_notebook_is_assert_inert():
    result = TurnResult()
    result.add(AssistantDelta(text="hello <img src=x onerror=x()>"))
    shown = result._repr_markdown_()
    assert_inert(shown)
    assert "hello" in shown
