"""Line endings, byte order marks and lines: shown alike, matched as shown, kept as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopat_jupyter.sandboxes.inside.line_endings import (
    EditableText,
    split_lines,
    usual_ending,
    with_endings_of,
    with_lf,
)

TEXTS = st.text(st.sampled_from("ab\r\n"), max_size=30)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb\n", ["a", "b"]),
        ("a\r\nb", ["a", "b"]),
        ("a\rb\r", ["a", "b"]),
        ("\ufeffa\n", ["a"]),
        ("a\x0cb\x85c\u2028d\x1ce\n", ["a\x0cb\x85c\u2028d\x1ce"]),
        ("\n\n", ["", ""]),
        ("", []),
    ],
)
def test_lines_are_what_editors_call_lines(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines


@pytest.mark.parametrize(
    ("text", "old", "new", "after"),
    [
        ("a\r\nb\r\nc\r\n", "a\nb", "x\ny", "x\r\ny\r\nc\r\n"),
        ("a\r\nb\r\n", "b", "b\nmore", "a\r\nb\r\nmore\r\n"),
        ("a\r\nb\nc\r\nd", "a\nb\nc", "1\n2\n3", "1\r\n2\n3\r\nd"),
        ("a\nb", "b", "x\ny", "a\nx\ny"),
        ("\ufeffa\r\nb", "a", "x", "\ufeffx\r\nb"),
        ("a\r\nb", "a\r\nb", "x\r\ny", "x\r\ny"),
        ("a\rb\rc", "b\nc", "x\ny\nz", "a\rx\ry\rz"),
        ("a a\r\na", "a", "b", "b b\r\nb"),
    ],
)
def test_an_edit_matches_what_was_shown_and_keeps_endings(
    text: str, old: str, new: str, after: str
) -> None:
    editable = EditableText(text)
    assert editable.count(with_lf(old)) >= 1
    assert editable.replaced(with_lf(old), with_lf(new)) == after


@given(text=TEXTS, old=TEXTS.map(with_lf).filter(bool), new=TEXTS.map(with_lf))
def test_an_edit_changes_what_is_shown_and_nothing_else(text: str, old: str, new: str) -> None:
    after = EditableText(text).replaced(old, new)
    assert with_lf(after) == with_lf(text).replace(old, new)
    if old not in with_lf(text):
        assert after == text


@pytest.mark.parametrize(
    ("before", "text", "after"),
    [
        ("a\r\nb\r\n", "x\ny\n", "x\r\ny\r\n"),
        ("a\nb\n", "x\ny\n", "x\ny\n"),
        ("a\r\nb\r\nc\n", "x\ny\n", "x\r\ny\r\n"),
        ("a\r\n", "x\r\ny\n", "x\r\ny\n"),
        ("\ufeffa\r\n", "x\n", "\ufeffx\r\n"),
        ("", "x\n", "x\n"),
        ("one line", "x\ny", "x\ny"),
    ],
)
def test_a_file_that_is_written_anew_keeps_its_endings(before: str, text: str, after: str) -> None:
    assert with_endings_of(text, before) == after


def test_the_usual_ending_is_the_most_frequent_one() -> None:
    assert usual_ending("a\r\nb\r\nc\n") == "\r\n"
    assert usual_ending("a") == "\n"
