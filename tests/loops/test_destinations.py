"""One spelling for a host and port, whatever was written; what could be read twice is refused."""

from __future__ import annotations

import pytest

from loopat_jupyter.loops.destinations import (
    BadDestination,
    Destination,
    parse_destination,
    parse_pattern,
)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("example.org:443", "example.org:443"),
        ("Example.ORG:443", "example.org:443"),
        ("example.org.:443", "example.org:443"),
        ("example.org:00443", "example.org:443"),
        ("b\u00fccher.example:443", "xn--bcher-kva.example:443"),
        ("B\u00dcCHER.Example:443", "xn--bcher-kva.example:443"),
        ("bu\u0308cher.example:443", "xn--bcher-kva.example:443"),
        ("XN--BCHER-KVA.example:443", "xn--bcher-kva.example:443"),
        ("fa\u00df.example:443", "xn--fa-hia.example:443"),
        ("a\u3002example:80", "a.example:80"),
        ("ex\u00adample.org:80", "example.org:80"),
        ("\u212a.example:80", "k.example:80"),
        ("r1---a.example:443", "r1---a.example:443"),
        ("ab--cd.example:443", "ab--cd.example:443"),
        ("localhost:8888", "localhost:8888"),
        ("192.0.2.1:80", "192.0.2.1:80"),
        ("127.0.0.1.:80", "127.0.0.1:80"),
        ("\uff11\uff12\uff17.0.0.1:80", "127.0.0.1:80"),
        ("[2001:DB8:0:0::1]:443", "[2001:db8::1]:443"),
        ("[::1]:443", "[::1]:443"),
    ],
)
def test_a_destination_has_one_spelling(written: str, meant: str) -> None:
    assert str(parse_destination(written)) == meant


def test_a_mapped_address_stays_an_ipv6_address() -> None:
    """So that what looks at addresses sees it as it is dialled."""
    assert ":" in parse_destination("[::ffff:127.0.0.1]:80").host


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "..",
        ".example.org",
        "example..org",
        "example.org..",
        "evil\0.example.org",
        "example.org\0",
        "example.org\n",
        "example.org\r\nx: y",
        "exa mple.org",
        " example.org",
        "example.org\t",
        "ex_ample.org",
        "_dmarc.example.org",
        "-a.example.org",
        "a-.example.org",
        "user@example.org",
        "example.org/",
        "example.org\\",
        "example.org#",
        "example%2eorg",
        "*.example.org",
        "a\u200db.example",
        "\u2100.example",
        "\u0663.example",
        "xn--a.example",
        "xn--.example",
        "x" * 64 + ".org",
        ".".join(["a" * 50] * 5),
        "a." * 40_000 + "org",
        "\u00fc" * 254,
    ],
)
def test_what_is_no_name_is_refused(host: str) -> None:
    with pytest.raises(BadDestination, match="no valid name"):
        parse_destination(f"{host}:443")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.01",
        "0x7f.0.0.1",
        "127.0.0.0x1",
        "127.0x1",
        "127.1",
        "127.0.1",
        "0",
        "256.1.1.1",
        "1.2.3.4.5",
        "example.123",
        "example.0x",
        "169.254.43518",
        "0xA9FEA9FE",
    ],
)
def test_a_number_that_is_no_plain_address_is_refused(host: str) -> None:
    with pytest.raises(BadDestination, match="a number, but no plain IPv4 address"):
        parse_destination(f"{host}:80")


@pytest.mark.parametrize(
    "host",
    ["[::1", "[::1]x", "[]", "[fe80::1%eth0]", "[::1%25lo]", "[1.2.3.4]", "[v1.a]", "[[::1]]"],
)
def test_what_is_no_ipv6_address_is_refused(host: str) -> None:
    with pytest.raises(BadDestination, match="IPv6"):
        parse_destination(f"{host}:80")


def test_an_ipv6_address_without_brackets_is_refused() -> None:
    with pytest.raises(BadDestination):
        parse_destination("::1:80")


@pytest.mark.parametrize(
    "port", ["", "0", "65536", "99999", "000443", "+80", "-1", "80 ", "\u0668"]
)
def test_a_port_is_a_number_from_1_to_65535(port: str) -> None:
    with pytest.raises(BadDestination, match="port"):
        parse_destination(f"example.org:{port}")


def test_a_port_is_needed_where_there_is_no_default() -> None:
    assert parse_destination("example.org", 80) == Destination("example.org", 80)
    assert parse_destination("[::1]", 80) == Destination("::1", 80)
    with pytest.raises(BadDestination, match="names no port"):
        parse_destination("example.org")


def test_the_longest_names_are_taken() -> None:
    label = "x" * 63
    assert parse_destination(f"{label}.org:1").host == f"{label}.org"
    name = ".".join(["a" * 49] * 5) + ".org"
    assert len(name) == 253
    assert parse_destination(f"{name}.:1").host == name


def test_what_was_parsed_parses_to_itself() -> None:
    for text in ("B\u00dccher.example.:443", "[2001:DB8::1]:80", "192.0.2.1:65535"):
        once = parse_destination(text)
        assert parse_destination(str(once)) == once


# ------------------------------------------------------------------ patterns


@pytest.mark.parametrize(
    ("pattern", "allowed", "not_allowed"),
    [
        (
            "example.org",
            ["example.org:443", "example.org:80"],
            ["example.org:22", "a.example.org:80"],
        ),
        ("example.org:22", ["example.org:22"], ["example.org:443", "example.org:80"]),
        ("Example.Org.", ["example.org:443", "EXAMPLE.org.:80"], ["example.com:443"]),
        (
            "*.example.org",
            ["a.example.org:443", "a.b.example.org:80", "A.EXAMPLE.ORG.:443"],
            [
                "example.org:443",
                "evilexample.org:443",
                "a.example.org:22",
                "a.example.org.evil.net:443",
            ],
        ),
        ("*.example.org:8443", ["a.example.org:8443"], ["a.example.org:443", "example.org:8443"]),
        ("*.b\u00fccher.example", ["a.xn--bcher-kva.example:443"], ["xn--bcher-kva.example:443"]),
        ("192.0.2.1", ["192.0.2.1:80"], ["192.0.2.11:80"]),
        ("[2001:DB8::1]:8443", ["[2001:db8:0::1]:8443"], ["[2001:db8::1]:443"]),
    ],
)
def test_a_pattern_allows_just_what_it_says(
    pattern: str, allowed: list[str], not_allowed: list[str]
) -> None:
    parsed = parse_pattern(pattern)
    assert [one for one in allowed if not parsed.matches(parse_destination(one))] == []
    assert [one for one in not_allowed if parsed.matches(parse_destination(one))] == []


@pytest.mark.parametrize(
    "pattern",
    ["", "*", "*.", "*.org", "*.1.2.3.4", "*.[::1]", "**.a.b", "*.*.a.b", "a.*.b", "*a.b", "a.b:",
     "a.b:0", "a.b/c", "http://a.b", "a.b, c.d", "*.a_b.org", "0177.0.0.1"],
)  # fmt: skip
def test_a_pattern_that_could_mean_more_is_refused(pattern: str) -> None:
    with pytest.raises(BadDestination):
        parse_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["a.b", "a.b:8443", "*.a.b", "*.a.b:8443", "[2001:db8::1]", "[2001:db8::1]:8443"]
)
def test_a_pattern_is_shown_as_it_can_be_written(pattern: str) -> None:
    assert str(parse_pattern(f" {pattern} ")) == pattern
