"""One spelling of each destination, and nothing that could be read in two ways."""

from __future__ import annotations

import pytest

from loopat_jupyter.loops.destinations import (
    BadDestination,
    Destination,
    Pattern,
    parse_destination,
    parse_pattern,
)


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        ("example.org.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example.", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("fass.example", "fass.example"),
        ("example。org", "example.org"),
        ("ｅｘａｍｐｌｅ．ｏｒｇ", "example.org"),
        ("exam\u00adple.org", "example.org"),
        ("\ufeffexample.org", "example.org"),
        ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"),
        ("r3---sn-x.example.org", "r3---sn-x.example.org"),
        ("localhost", "localhost"),
        ("3com.example", "3com.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1.", "192.0.2.1"),
        ("１９２.0.2.1", "192.0.2.1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("[::ffff:127.0.0.1]", "::ffff:7f00:1"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
    ],
)
def test_a_host_has_one_spelling(written: str, host: str) -> None:
    found = parse_destination(f"{written}:443")
    assert (found.host, found.port) == (host, 443)
    assert parse_destination(str(found)) == found


@pytest.mark.parametrize(
    "written",
    [
        "", ".", "..", "example..org", ".example.org", "example.org..", "-a.example", "a-.example",
        "under_score.example", "a b.example", "a%2eexample", "a/b", "a\\b", "a@b", "a:b", "*",
        "*.example.org", "a\0.example", "a\n.example", "a\u200d.example",
        "a\u200b\u200c.example", "xn--", "xn--a.example", "xn--evil-.example", "xn--\u00e9.example",
        "xn--bcher-kva\u00e9.example", "a" * 64 + ".example", ".".join(["a" * 49] * 5) + ".abcd",
        "ü" * 250, "a" * 100_000, "ü" * 100_000,
        "0177.0.0.1", "0x7f.0.0.1", "0X7F000001", "2130706433", "017700000001", "127.1", "127.0.1",
        "256.0.0.1", "1.2.3.4.5", "127.0.0.0x1", "example.1", "1.2.3.08", "١٢٧.0.0.1", "0x",
        "1e3.1",
        "[::1", "::1", "[::1]]", "[fe80::1%eth0]", "[1.2.3.4]", "[v1.x]", "[]", "[:]",
        "[::ffff:0177.0.0.1]", "[0x1::]",
    ],
)  # fmt: skip
def test_what_is_no_host_is_refused(written: str) -> None:
    with pytest.raises(BadDestination):
        parse_destination(f"{written}:443")


@pytest.mark.parametrize(
    "port", ["0", "65536", "-1", "+1", "1 ", " 1", "", "http", "1e3", "0x50", "٣", "000080", "1:1"]
)
def test_what_is_no_port_is_refused(port: str) -> None:
    with pytest.raises(BadDestination):
        parse_destination(f"example.org:{port}")


def test_a_destination_without_a_port_takes_the_default_if_there_is_one() -> None:
    assert parse_destination("example.org", 80) == Destination("example.org", 80)
    assert parse_destination("[2001:db8::1]", 80) == Destination("2001:db8::1", 80)
    with pytest.raises(BadDestination, match="names no port"):
        parse_destination("example.org")


def test_an_address_is_known_from_a_name() -> None:
    for host in ("192.0.2.1", "[2001:db8::1]"):
        assert parse_destination(f"{host}:1").is_address
    for host in ("example.org", "localhost", "3com.example", "a.b1"):
        assert not parse_destination(f"{host}:1").is_address


# ------------------------------------------------------------------ patterns


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (
            "example.org",
            ["example.org:443", "example.org:80", "EXAMPLE.ORG.:443"],
            ["example.org:8443", "a.example.org:443", "evilexample.org:443", "org:443"],
        ),
        (
            "example.org:8443",
            ["example.org:8443"],
            ["example.org:443", "a.example.org:8443"],
        ),
        (
            "*.example.org",
            ["a.example.org:443", "a.b.example.org:80", "A.EXAMPLE.org.:443"],
            ["example.org:443", "evilexample.org:443", "a.example.org.evil:443",
             "a.example.org:22", "example.org.a:443"],
        ),
        (
            "*.example.org:22",
            ["a.example.org:22"],
            ["a.example.org:443", "example.org:22"],
        ),
        (
            "*.Bücher.example",
            ["a.xn--bcher-kva.example:443", "a.bücher.example:443"],
            ["xn--bcher-kva.example:443", "a.bucher.example:443"],
        ),
        ("192.0.2.1", ["192.0.2.1:80"], ["192.0.2.10:80", "192.0.2.1:81"]),
        ("[2001:db8::1]:80", ["[2001:DB8:0::1]:80"], ["[2001:db8::2]:80", "[2001:db8::1]:443"]),
    ],
)  # fmt: skip
def test_a_pattern_matches_what_it_says(
    pattern: str, matching: list[str], others: list[str]
) -> None:
    parsed = parse_pattern(pattern)
    assert [one for one in matching if not parsed.matches(parse_destination(one))] == []
    assert [one for one in others if parsed.matches(parse_destination(one))] == []
    assert parse_pattern(str(parsed)) == parsed


@pytest.mark.parametrize(
    "pattern",
    ["", "*", "*.", "*.org", "*.*.org", "a.*.org", "**.example.org", "*example.org", "*.192.0.2.1",
     "*.[::1]", "http://example.org", "example.org/", "example.org:0", "example.org:*", "a_b.org"],
)  # fmt: skip
def test_a_pattern_that_allows_too_much_or_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(BadDestination):
        parse_pattern(pattern)


def test_a_pattern_of_a_file_may_have_space_around_it() -> None:
    assert parse_pattern(" example.org ") == Pattern("example.org")
