"""Tokens and paths of the host do not get into a transcript."""

from __future__ import annotations

from loopat_jupyter.transcript.escape import CHUNK_CHARACTERS
from loopat_jupyter.transcript.redaction import Redactor


def test_tokens_and_paths_are_removed_and_nothing_like_them() -> None:
    redactor = Redactor({"/srv/home": "~", "/srv/home/loops/x/workdir": "/workdir", "/": "root"})
    token = "la_" + "0" * 48
    for text, expected in (
        ("/srv/home/loops/x/workdir/a", "/workdir/a"),
        ("cd /srv/home; ls", "cd ~; ls"),
        ("/srv/homestead /a/srv/home.d x/srv/home", "/srv/homestead /a/srv/home.d x/srv/home"),
        (f"x {token} y", "x la_… y"),
        (f"{token}0", f"{token}0"),
        ("http://h/?token=abc&x=1", "http://h/?token=…&x=1"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer …"),
        ("tokens=3", "tokens=3"),
        ("It is in /srv/home. And /srv/home... /srv/home.", "It is in ~. And ~... ~."),
        ("gcc -I/srv/home/x -L/srv/home", "gcc -I~/x -L~"),
        ('"a\\n/srv/home/x"', '"a\\n~/x"'),
        ("\x1b[35m/srv/home/x\x1b[0m \x1b[m\x1b[K/srv/home", "\x1b[35m~/x\x1b[0m \x1b[m\x1b[K~"),
        (f'"a\\n{token}\\n" KEY_{token}', '"a\\nla_…\\n" KEY_la_…'),
        ('{"Authorization": "token abc"}', '{"Authorization": "token …"}'),
        ('{\\"Authorization\\": \\"Bearer abc\\"}', '{\\"Authorization\\": \\"Bearer …\\"}'),
    ):
        assert redactor.redact_text(text) == expected
    assert redactor.redact_value({token: [token, 1, None]}) == {"la_…": ["la_…", 1, None]}


def test_a_token_in_a_long_line_is_removed_wherever_it_is() -> None:
    redactor = Redactor({})
    token = "la_" + "0" * 48
    for length in range(CHUNK_CHARACTERS - len(token), CHUNK_CHARACTERS + 1):
        assert redactor.redact_text("." * length + token) == "." * length + "la_…"
