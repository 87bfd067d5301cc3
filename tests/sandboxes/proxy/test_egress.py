"""Out to the world: what is let through and how, and what is refused and why."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from pathlib import Path

import pytest

from loopat_jupyter.loops.destinations import Destination
from tests.sandboxes.proxy.conftest import Client, ProxyFixture, WebServer


async def tunnel(proxied: ProxyFixture, target: str, early: bytes = b"") -> Client:
    client = await proxied.client()
    client.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode() + early)
    status, _ = await client.head()
    assert status == 200
    return client


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


# ------------------------------------------------------------------ what is allowed


async def test_nothing_is_allowed_by_default_and_the_answer_says_why(proxied: ProxyFixture) -> None:
    client = await proxied.client()
    status, code, message = await client.refusal("GET", "http://api.test/x")
    assert (status, code) == (403, "not_allowed")
    assert "api.test:80 is not on the allow-list" in message
    client = await proxied.client()
    status, code, message = await client.refusal("CONNECT", "api.test:443")
    assert (status, code) == (403, "not_allowed")
    [first, second] = await proxied.audited()
    assert (first.kind, first.host, first.port, first.verdict) == (
        "http",
        "api.test",
        80,
        "refused",
    )
    assert (second.kind, second.port) == ("connect", 443)
    assert "allow-list" in second.reason


async def test_the_reason_is_in_the_status_line_too(proxied: ProxyFixture) -> None:
    client = await proxied.client()
    client.write(b"CONNECT api.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"403 api.test:443 is not on the allow-list" in (await client.rest()).split(b"\r\n")[0]


async def test_an_allowed_host_is_asked_with_the_parsed_spelling(proxied: ProxyFixture) -> None:
    web = WebServer()
    port = await proxied.server(web)
    proxied.allow(f"*.example.test:{port}")
    client = await proxied.client()
    status, _, body = await client.ask(
        "GET",
        f"http://API.Example.Test.:{port}/a%2Fb?q=1#part",
        {"Host": "other.test", "X-Kept": "yes"},
    )
    assert (status, body) == (200, b"hello")
    [request] = web.asked
    assert request.startswith(b"GET /a%2Fb?q=1 HTTP/1.1\r\n")
    assert f"host: api.example.test:{port}\r\n".encode() in request
    assert b"other.test" not in request
    assert b"x-kept: yes" in request
    [line] = await proxied.audited()
    assert (line.host, line.verdict, line.bytes_in) == ("api.example.test", "allowed", 5)


async def test_a_body_goes_through_by_length_and_in_chunks(proxied: ProxyFixture) -> None:
    web = WebServer()
    port = await proxied.server(web)
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    await client.ask("POST", f"http://a.test:{port}/", body=b"x" * 100_000)
    assert web.asked[0].endswith(b"\r\n\r\n" + b"x" * 100_000)
    client = await proxied.client()
    client.write(
        f"POST http://a.test:{port}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Expect: 100-continue\r\n\r\n".encode()
    )
    assert (await client.head())[0] == 100
    client.write(b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n")
    assert (await client.answer())[2] == b"hello"
    assert web.asked[1].endswith(b"3\r\nabc\r\n0\r\n\r\n")
    assert b"expect" not in web.asked[1].lower()
    assert [line.bytes_out for line in await proxied.audited()] == [100_000, 3]


async def test_headers_of_one_connection_end_here(proxied: ProxyFixture) -> None:
    web = WebServer(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
        b"Upgrade: h2c\r\nKeep-Alive: 5\r\nX-Kept: 1\r\n\r\nok"
    )
    port = await proxied.server(web)
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    hops = {
        "Connection": "X-Secret, keep-alive", "X-Secret": "1", "Proxy-Authorization": "Basic x",
        "Proxy-Connection": "keep-alive", "Upgrade": "h2c", "TE": "trailers",
    }  # fmt: skip
    _, headers, _ = await client.ask("GET", f"http://a.test:{port}/", hops)
    assert "x-kept" in headers
    assert {"x-hop", "upgrade", "keep-alive"} & headers.keys() == set()
    for name in (b"secret", b"proxy-", b"upgrade", b"te:"):
        assert name not in web.asked[0].lower()


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_end_where_they_end(
    proxied: ProxyFixture, method: str, reply: bytes
) -> None:
    port = await proxied.server(WebServer(reply))
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    for _ in range(2):  # the same connection, again
        status, _, body = await client.ask(method, f"http://a.test:{port}/")
        assert str(status).encode() in reply
        assert body == b""


async def test_a_client_of_http_1_0_is_served(proxied: ProxyFixture) -> None:
    port = await proxied.server(
        WebServer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    )
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    client.write(f"GET http://a.test:{port}/ HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"ok"


async def test_requests_may_be_sent_ahead_and_are_answered_in_order(proxied: ProxyFixture) -> None:
    web = WebServer()
    port = await proxied.server(web)
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    one = f"GET http://a.test:{port}/%d HTTP/1.1\r\nHost: x\r\n\r\n"
    client.write("".join(one % number for number in range(3)).encode())
    assert [(await client.answer())[0] for _ in range(3)] == [200] * 3
    assert [request.split()[1] for request in web.asked] == [b"/0", b"/1", b"/2"]


async def test_an_informational_answer_is_not_taken_for_the_answer(proxied: ProxyFixture) -> None:
    port = await proxied.server(
        WebServer(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    )
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    assert (await client.ask("GET", f"http://a.test:{port}/"))[2] == b"ok"


# ------------------------------------------------------------------ tunnels


async def test_a_tunnel_carries_bytes_both_ways_and_early_ones(proxied: ProxyFixture) -> None:
    port = await proxied.server(echo)
    proxied.allow(f"a.test:{port}")
    client = await tunnel(proxied, f"a.test:{port}", b"early ")
    client.write(b"late")
    assert await client.exactly(10) == b"early late"
    client.writer.write_eof()
    assert await client.rest() == b""
    [line] = await proxied.audited()
    assert (line.kind, line.bytes_out, line.bytes_in) == ("connect", 10, 10)


async def test_a_side_that_has_ended_still_hears_the_other(proxied: ProxyFixture) -> None:
    async def answers_at_the_end(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        sent = await r.read()
        w.write(b"got %d" % len(sent))
        await w.drain()

    port = await proxied.server(answers_at_the_end)
    proxied.allow(f"a.test:{port}")
    client = await tunnel(proxied, f"a.test:{port}")
    client.write(b"x" * 300_000)
    client.writer.write_eof()
    assert await client.rest() == b"got 300000"


async def test_a_reader_that_is_slow_holds_up_its_sender_and_no_memory(
    proxied: ProxyFixture,
) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.transport.set_write_buffer_limits(0)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    port = await proxied.server(endless)
    proxied.allow(f"a.test:{port}")
    client = await tunnel(proxied, f"a.test:{port}")
    client.writer.transport.pause_reading()
    before, stalled = -1, 0
    async with asyncio.timeout(20):
        while stalled < 50:  # turns of the event loop in which nothing went on
            stalled = stalled + 1 if sent == before else 0
            before = sent
            await asyncio.sleep(0.002)
    assert sent < 64 << 20  # the kernel's buffers, and none of ours
    [task] = proxied.proxy._connections
    assert not task.done()


async def test_tls_goes_through_untouched(proxied: ProxyFixture, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=a.test",
         "-addext", "subjectAltName=DNS:a.test"],
        capture_output=True, timeout=30,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    outside.load_cert_chain(cert, key)
    port = await proxied.server(WebServer(), ssl=outside)
    proxied.allow(f"a.test:{port}")
    client = await tunnel(proxied, f"a.test:{port}")
    trust = ssl.create_default_context(cafile=str(cert))
    await client.writer.start_tls(trust, server_hostname="a.test")
    client.write(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert (await client.answer())[2] == b"hello"


async def test_a_request_for_a_tunnel_has_no_body(proxied: ProxyFixture) -> None:
    proxied.allow("a.test:9")
    client = await proxied.client()
    refused = await client.refusal("CONNECT", "a.test:9", body=b"smuggled")
    assert refused[:2] == (400, "bad_destination")


# ------------------------------------------------------------------ what names no destination


@pytest.mark.parametrize(
    "target",
    [
        "a.test", "a.test:", "a.test:0", "a.test:65536", "a.test:http", ":443", "user@a.test:443",
        "user:pw@a.test:443", "a_b.test:443", "a..test:443", ".test:443", "-a.test:443",
        "a%2etest:443", "evil%00.a.test:443", "0177.0.0.1:80", "2130706433:80", "0x7f000001:80",
        "127.1:80", "[::1", "[::1]", "[fe80::1%25eth0]:80", "[::ffff:127.0.0.1%0]:80",
        "xn--a:443", "a" * 64 + ".test:443", "a." * 127 + "test:443", "http://a.test:443",
        "a.test/x:443", "a.test#:443", "a.test?x:443", "a.test\\:443", "*:443", "*.test:443",
    ],
)  # fmt: skip
async def test_a_tunnel_to_what_names_no_destination_is_refused(
    proxied: ProxyFixture, target: str
) -> None:
    proxied.allow("*.a.test:443", "a.test:443", "a.test")
    client = await proxied.client()
    status, code, message = await client.refusal("CONNECT", target)
    assert (status, code) == (400, "bad_destination"), message
    [line] = await proxied.audited()
    assert (line.verdict, line.port) == ("refused", 0)
    assert line.host == target[:300]
    assert proxied.proxy.drain_denied() == []


@pytest.mark.parametrize(
    "target",
    [
        "https://a.test/", "ftp://a.test/", "file:///etc/passwd", "http:a.test/", "http:///x",
        "http://user@a.test/", "http://a.test@b.test/", "http://a.test\\@b.test/",
        "http://a.test\\.b.test/", "http://[/", "http://[::1/", "http://a.test:x/", "http://",
        "a.test/x", "*", "http://a.test:0/", "http://%61.test/", "http://a.test%00.b/",
    ],
)  # fmt: skip
async def test_a_request_for_what_names_no_destination_is_refused(
    proxied: ProxyFixture, target: str
) -> None:
    proxied.allow("a.test", "b.test", "*.b.test")
    client = await proxied.client()
    status, code, _ = await client.refusal("GET", target)
    assert (status, code) == (400, "bad_destination")


async def test_the_proxy_itself_serves_nothing(proxied: ProxyFixture) -> None:
    client = await proxied.client()
    assert (await client.refusal("GET", "/"))[:2] == (404, "not_found")


async def test_bytes_that_are_no_name_do_not_reach_the_parser(proxied: ProxyFixture) -> None:
    for raw in (b"evil\0.a.test:443", "bücher.test:443".encode(), b"a.test:443\x7f"):
        client = await proxied.client()
        client.write(b"CONNECT " + raw + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.answer())[0] == 400


# ------------------------------------------------------------------ smuggling


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: 5, 6",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Host: other",
    ],
)
async def test_a_request_that_two_might_read_differently_gets_no_further(
    proxied: ProxyFixture, lines: str
) -> None:
    web = WebServer()
    port = await proxied.server(web)
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    smuggled = f"GET http://a.test:{port}/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    client.write(
        f"POST http://a.test:{port}/ HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n"
        f"0\r\n\r\n{smuggled}".encode()
    )
    answers = await client.rest()
    assert answers.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert answers.count(b"content-type") == 1
    assert web.asked == []


async def test_a_length_beside_chunks_does_not_go_on_in_an_answer(proxied: ProxyFixture) -> None:
    port = await proxied.server(
        WebServer(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n0\r\n\r\n"
        )
    )
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    _, headers, body = await client.ask("GET", f"http://a.test:{port}/")
    assert "content-length" not in headers
    assert body == b"hello"


async def test_connection_cannot_name_away_what_frames_a_request(proxied: ProxyFixture) -> None:
    web = WebServer()
    port = await proxied.server(web)
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    named = {"Connection": "content-length, host, transfer-encoding"}
    await client.ask("POST", f"http://a.test:{port}/", named, b"0\r\n\r\nGET /x HTTP/1.1\r\n\r\n")
    [request] = web.asked
    assert b"transfer-encoding: chunked\r\n" in request
    assert b"content-length" not in request
    assert request.count(b"host: a.test") == 1


# ------------------------------------------------------------------ when it goes wrong


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"no HTTP at all\r\n\r\n", 502),
        (b"", 502),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\n", 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 502),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, 502),
    ],
)
async def test_an_answer_that_is_none_is_a_failure_of_that_host(
    proxied: ProxyFixture, reply: bytes, status: int
) -> None:
    port = await proxied.server(WebServer(reply))
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    got, code, message = await client.refusal("GET", f"http://a.test:{port}/")
    assert (got, code) == (status, "unreachable")
    assert "a.test" in message
    [line] = await proxied.audited()
    assert line.verdict == "failed"


async def test_an_answer_that_breaks_off_is_seen_to(proxied: ProxyFixture) -> None:
    port = await proxied.server(WebServer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"))
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    client.write(f"GET http://a.test:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (await client.rest()).endswith(b"\r\n\r\nhalf")
    [line] = await proxied.audited()
    assert (line.verdict, line.bytes_in) == ("failed", 4)


async def test_a_client_that_disconnects_cancels_its_request(proxied: ProxyFixture) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        try:
            await reader.read()
        finally:
            left.set()

    port = await proxied.server(silent)
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    client.write(f"GET http://a.test:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    async with asyncio.timeout(20):
        await asked.wait()
        client.writer.close()
        await left.wait()


# ------------------------------------------------------------------ asking a person


async def test_what_was_refused_is_remembered_once_and_bounded(proxied: ProxyFixture) -> None:
    for target in ("b.test:443", "a.test:443", "b.test:443"):
        client = await proxied.client()
        await client.refusal("CONNECT", target)
    assert proxied.proxy.drain_denied() == [Destination("b.test", 443), Destination("a.test", 443)]
    assert proxied.proxy.drain_denied() == []
    for number in range(40):
        client = await proxied.client()
        await client.refusal("CONNECT", f"host-{number}.test:443")
    assert len(proxied.proxy.drain_denied()) == 32


async def test_what_a_person_permits_holds_for_that_destination_alone(
    proxied: ProxyFixture,
) -> None:
    port = await proxied.server(WebServer())
    other = await proxied.server(WebServer())
    proxied.proxy.set_grants([Destination("a.test", port)])
    client = await proxied.client()
    assert (await client.ask("GET", f"http://A.test:{port}/"))[0] == 200
    for target in (f"http://a.test:{other}/", f"http://b.a.test:{port}/", f"http://test:{port}/"):
        client = await proxied.client()
        assert (await client.refusal("GET", target))[0] == 403
    proxied.proxy.set_grants([])
    client = await proxied.client()
    assert (await client.refusal("GET", f"http://a.test:{port}/"))[0] == 403


# ------------------------------------------------------------------ a listener that others find


async def test_a_shared_listener_requires_its_key(shared_proxied: ProxyFixture) -> None:
    import base64

    proxied = shared_proxied
    port = await proxied.server(WebServer())
    proxied.allow(f"a.test:{port}")
    wrong = base64.b64encode(b"loop:guessed").decode()
    for headers in ({}, {"Proxy-Authorization": f"Basic {wrong}"}, {"Proxy-Authorization": "x"}):
        client = await proxied.client()
        status, answered, body = await client.ask("GET", f"http://a.test:{port}/", headers)
        assert (status, json.loads(body)["error"]["code"]) == (407, "proxy_key")
        assert answered["proxy-authenticate"].startswith("Basic")
    right = base64.b64encode(f"loop:{proxied.proxy.proxy_key}".encode()).decode()
    client = await proxied.client()
    given = {"Proxy-Authorization": f"basic {right}"}
    assert (await client.ask("GET", f"http://a.test:{port}/", given))[0] == 200
