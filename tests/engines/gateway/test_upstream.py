"""The upstream of a model gateway: what may be requested, what the provider gets, and the key."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
import pytest

from loopat_jupyter.context.config_file import DEMO_MODEL, NO_KEY, SelectedModel
from loopat_jupyter.engines.gateway import http_pool
from loopat_jupyter.engines.gateway.http_pool import ConnectionPool
from loopat_jupyter.engines.gateway.proxy_tunnel import UpstreamAddress, proxy_for
from loopat_jupyter.engines.gateway.upstream import (
    BODY_LIMIT,
    ModelUpstreamFactory,
    ProviderUpstream,
    SecretMasker,
)
from loopat_jupyter.engines.models.http import tls_context
from loopat_jupyter.loops.errors import TurnFailure
from loopat_jupyter.loops.ports.network import ModelRequestRefused

KEY = "sk-planted-0123456789"
MESSAGES = "/v1/messages"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass
class Provider:
    """A server that keeps what it was asked, byte for byte, and answers as it is told."""

    reply: bytes = OK
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0
    aborted: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None
    port: int = 0
    open: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, h11.RemoteProtocolError, asyncio.CancelledError):
            self.aborted.set()
        finally:
            self.open.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        http, seen = h11.Connection(h11.SERVER), bytearray()
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.ConnectionClosed):
                return False
            if event is h11.NEED_DATA:
                data = await reader.read(65536)
                seen += data
                http.receive_data(data)
        self.asked.append(bytes(seen))
        writer.write(self.reply)
        await writer.drain()
        if self.hold is not None:
            await self.hold.wait()
        return b"connection: close" not in self.reply

    def sent(self, number: int = -1) -> tuple[str, dict[str, str], bytes]:
        """A request's first line, headers and body."""
        head, _, body = self.asked[number].partition(b"\r\n\r\n")
        line, *rows = head.decode().split("\r\n")
        return line, dict(row.split(": ", 1) for row in rows), body


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def serving(stack: AsyncExitStack, provider: Provider, **options: Any) -> Provider:
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, **options)

    async def stop() -> None:
        server.close()
        for task in provider.open:
            task.cancel()
        if provider.open:
            await asyncio.wait(provider.open)

    stack.push_async_callback(stop)
    provider.port = int(server.sockets[0].getsockname()[1])
    return provider


@pytest.fixture
async def provider(stack: AsyncExitStack) -> Provider:
    return await serving(stack, Provider())


@pytest.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    pool = ConnectionPool(ssl.create_default_context())
    yield pool
    pool.close()


MakeUpstream = Callable[..., ProviderUpstream]


@pytest.fixture
def make_upstream(provider: Provider, pool: ConnectionPool) -> MakeUpstream:
    def make(api: str = "anthropic", base: str | None = None, **more: Any) -> ProviderUpstream:
        url = base or f"http://127.0.0.1:{provider.port}" + ("/v1" if api == "openai" else "")
        choice = SelectedModel("p", "m", api, url, more.pop("key", KEY), **more)  # type: ignore[arg-type]
        return ProviderUpstream(choice, url, pool)

    return make


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def post(
    upstream: ProviderUpstream, *pieces: bytes, target: str = MESSAGES, headers: Any = ()
) -> tuple[int, dict[str, str], bytes]:
    answer = await upstream.send_request("POST", target, headers, stream(*(pieces or (b"{}",))))
    body = b"".join([piece async for piece in answer.body()])
    await answer.close()
    return answer.status, dict(answer.headers), body


# ------------------------------------------------------------------ what the provider gets


async def test_the_real_key_is_added_outside(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    status, _, body = await post(
        make_upstream(), b'{"a":1}', headers=[("x-api-key", "loopat-inside")]
    )
    assert (status, body) == (200, b"ok")
    line, headers, sent = provider.sent()
    assert line == "POST /v1/messages HTTP/1.1"
    assert headers["x-api-key"] == KEY
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["host"] == f"127.0.0.1:{provider.port}"
    assert sent == b'7\r\n{"a":1}\r\n0\r\n\r\n'
    await post(make_upstream("openai"), target="/chat/completions")
    assert provider.sent()[0] == "POST /v1/chat/completions HTTP/1.1"
    assert "x-api-key" not in provider.sent()[1]


async def test_only_allowed_headers_are_passed_on(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    given = {
        "content-length": "2", "content-type": "application/json", "accept": "text/event-stream",
        "anthropic-version": "2023-06-01", "anthropic-beta": "a,b", "x-stainless-lang": "js",
        "user-agent": "agent/1", "x-app": "cli",
    }  # fmt: skip
    others = {
        "x-forwarded-for": "1.2.3.4", "forwarded": "for=x", "x-real-ip": "1", "via": "x",
        "cookie": "a=b", "origin": "x", "openai-organization": "other", "x-goog-api-key": "k",
        "accept-encoding": "br", "x-http-method-override": "DELETE", "x-original-url": "/admin",
        "anthropic-api-key": "other", "authorization": "Bearer other", "api-key": "other",
    }  # fmt: skip
    await post(make_upstream(), headers=[*given.items(), *others.items()])
    _, headers, _ = provider.sent()
    assert {name: headers.get(name) for name in given} == given
    assert headers.keys() - given.keys() == {
        "host", "accept-encoding", "x-api-key", "authorization",
    }  # fmt: skip
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("api", "method", "target"),
    [
        ("anthropic", "POST", "/v1/messages?beta=true"),
        ("anthropic", "POST", "/v1/messages/count_tokens"),
        ("anthropic", "GET", "/v1/models?limit=1000&after_id=a"),
        ("openai", "POST", "/responses"),
        ("openai", "GET", "/models"),
    ],
)
async def test_allowed_requests_are_passed_on(
    make_upstream: MakeUpstream, provider: Provider, api: str, method: str, target: str
) -> None:
    answer = await make_upstream(api).send_request(method, target, (), stream(b"{}"))
    await answer.close()
    line, headers, body = provider.sent()
    assert line == f"{method} {'/v1' if api == 'openai' else ''}{target} HTTP/1.1"
    assert method == "POST" or (body == b"" and "transfer-encoding" not in headers)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/messages"), ("PUT", "/v1/messages"), ("DELETE", "/v1/models"),
        ("CONNECT", "/v1/messages"), ("TRACE", "/v1/messages"), ("post", "/v1/messages"),
        ("HEAD", "/v1/models"), ("POST", "/v1/models"),
        ("POST", ""), ("POST", "/"), ("POST", "/v1/messages/"), ("POST", "/v1//messages"),
        ("POST", "//v1/messages"), ("POST", "/v1/messages/batches"), ("GET", "/v1/files"),
        ("POST", "/v1/messages/../organizations"), ("POST", "/v1/%6dessages"),
        ("POST", "/v1/messages%2f..%2ffiles"), ("POST", "/v1/messages%3fx"),
        ("POST", "/v1/messages/%2e%2e/files"), ("POST", "/v1/messages;x=1"),
        ("POST", "/v1/messages#x"), ("POST", "/v1/complete"), ("GET", "/v1/organizations/users"),
        ("POST", "/v1/chat/completions"), ("POST", "@evil.test/v1/messages"),
        ("POST", ".evil.test/v1/messages"), ("POST", ":80/v1/messages"),
        ("POST", "/v1/messages?key=x"), ("POST", "/v1/messages?beta=true&api_key=x"),
        ("POST", "/v1/messages?beta=true#x"), ("POST", "/v1/messages?beta=a/../b"),
        ("POST", "/v1/messages?beta=%00"), ("POST", "/v1/messages?a"), ("POST", "/v1/messages??"),
    ],
)  # fmt: skip
async def test_anything_else_is_refused_before_it_is_sent(
    make_upstream: MakeUpstream, provider: Provider, method: str, target: str
) -> None:
    with pytest.raises(ModelRequestRefused):
        await make_upstream().send_request(method, target, (), stream(b"{}"))
    assert provider.connections == 0


# ------------------------------------------------------------------ which model


async def test_only_enabled_models_can_be_named(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    upstream = make_upstream(models=("small", "large"))
    assert (await post(upstream, b'{"model":"large",', b'"messages":[]}'))[0] == 200
    with pytest.raises(ModelRequestRefused, match=r"'other' is not enabled .* small, large"):
        await post(upstream, b'{"model":"other"}')
    with pytest.raises(ModelRequestRefused, match="certainty"):
        await post(upstream, b'{"model":"small","Model":"other"}')
    assert len(provider.asked) == 1
    assert (await post(upstream, b'{"model":"small"}'))[0] == 200


async def test_any_model_can_be_named_where_the_provider_lists_none(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    assert (await post(make_upstream(), b'{"model":"whatever"}'))[0] == 200
    assert (await post(make_upstream(), b"not even JSON"))[0] == 200


async def test_a_model_that_is_named_late_ends_the_request_before_its_end(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    upstream = make_upstream(models=("small",))
    pieces = [b'{"messages":"', *[b"x" * 60_000] * 10, b'","model":"other"}']
    with pytest.raises(ModelRequestRefused):
        await post(upstream, *pieces, headers=[("content-length", str(sum(map(len, pieces))))])
    await asyncio.wait_for(provider.aborted.wait(), 20)
    assert provider.asked == []  # it never got a whole request


async def test_a_large_body_streams_through(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    pieces = [b'{"model":"small","x":"', *[b"y" * 65536] * 64, b'"}']
    length = [("content-length", str(sum(map(len, pieces))))]
    assert (await post(make_upstream(models=("small",)), *pieces, headers=length))[0] == 200
    assert provider.sent()[2] == b"".join(pieces)


async def test_a_body_without_end_is_refused(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    pieces = [b"x" * (1 << 20)] * (BODY_LIMIT // (1 << 20) + 1)
    with pytest.raises(ModelRequestRefused, match="32 MiB"):
        await post(make_upstream(), *pieces)
    assert provider.asked == []


async def test_a_compressed_body_hides_no_model(make_upstream: MakeUpstream) -> None:
    with pytest.raises(ModelRequestRefused, match="compressed"):
        await post(
            make_upstream(models=("small",)), b"\x1f\x8b", headers=[("content-encoding", "gzip")]
        )


# ------------------------------------------------------------------ what comes back


@pytest.mark.parametrize("cut", [0, 1, 5, len(KEY) - 1])
async def test_a_key_that_the_provider_repeats_is_masked(
    make_upstream: MakeUpstream, provider: Provider, cut: int
) -> None:
    said = f'{{"error":"invalid key {KEY}, in {KEY[:9]} sk-pl"}}'.encode()
    at = said.index(KEY.encode()) + cut
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (said[:at], said[at:]))
    provider.reply = (
        b"HTTP/1.1 401 Unauthorized\r\nx-echo: Bearer " + KEY.encode() + b"\r\n"
        b"set-cookie: a=b\r\ntransfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
    )
    status, headers, body = await post(make_upstream())
    assert status == 401
    assert body == said.replace(KEY.encode(), b"*" * len(KEY))
    assert KEY not in repr(headers)
    assert "set-cookie" not in headers


async def test_a_redirect_is_passed_on_and_not_followed(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    provider.reply = (
        b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\n"
        b"content-length: 0\r\n\r\n"
    )
    status, headers, _ = await post(make_upstream())
    assert (status, headers["location"]) == (307, "http://127.0.0.1:1/")
    assert len(provider.asked) == 1


async def test_a_compressed_response_is_refused(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    provider.reply = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nxx"
    with pytest.raises(OSError, match="compressed"):
        await post(make_upstream())


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
    ],
)  # fmt: skip
async def test_an_invalid_response_is_an_oserror_without_a_secret(
    make_upstream: MakeUpstream, provider: Provider, reply: bytes
) -> None:
    provider.reply = reply
    provider.hold = asyncio.Event()
    provider.hold.set()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await Provider._one(provider, reader, writer)
        return False

    provider._one = once  # type: ignore[method-assign]
    with pytest.raises(OSError, match=r"broke off|connection") as failed:
        await post(make_upstream())
    assert KEY not in str(failed.value)


async def test_a_provider_that_is_not_there_is_an_oserror_with_what_happened(
    make_upstream: MakeUpstream,
) -> None:
    with pytest.raises(OSError, match="Connection refused") as failed:
        await post(make_upstream(base="http://127.0.0.1:1"))
    assert "127.0.0.1" not in str(failed.value)


async def test_a_key_that_cannot_be_sent_is_not_shown(make_upstream: MakeUpstream) -> None:
    bad = f"{KEY}\r\nX-Evil: 1"
    with pytest.raises(OSError, match=r"config\.json") as failed:
        await post(make_upstream(key=bad))
    assert KEY not in "".join(traceback.format_exception(failed.value))


# ------------------------------------------------------------------ connections


async def test_a_connection_is_used_again(make_upstream: MakeUpstream, provider: Provider) -> None:
    upstream = make_upstream()
    for _ in range(3):
        await post(upstream)
    assert provider.connections == 1


async def test_a_connection_that_the_provider_closed_is_not_used_again(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    upstream = make_upstream()
    await post(upstream)
    for task in provider.open:
        task.cancel()
    await asyncio.wait(provider.open)
    await asyncio.sleep(0.01)  # its FIN is on the way; there is no event to wait for here
    await post(upstream)
    assert provider.connections == 2


async def test_a_connection_whose_response_was_not_read_is_not_used_again(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    upstream = make_upstream()
    provider.reply = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"
    answer = await upstream.send_request("POST", MESSAGES, (), stream(b"{}"))
    await answer.close()
    await answer.close()
    provider.reply = OK
    assert (await post(upstream))[2] == b"ok"
    assert provider.connections == 2


async def test_a_connection_with_data_behind_the_response_is_not_used_again(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    upstream = make_upstream()
    provider.reply = OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
    assert (await post(upstream))[2] == b"ok"
    provider.reply = OK
    assert (await post(upstream))[2] == b"ok"
    assert provider.connections == 2


async def test_an_idle_connection_is_closed_in_time(
    make_upstream: MakeUpstream, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_pool, "IDLE_SECONDS", 0.01)
    await post(make_upstream())
    async with asyncio.timeout(20):
        await asyncio.gather(*provider.open)


async def test_a_request_that_is_cancelled_leaves_no_connection(
    make_upstream: MakeUpstream, provider: Provider, pool: ConnectionPool
) -> None:
    provider.reply, provider.hold = b"", asyncio.Event()
    asking = asyncio.ensure_future(post(make_upstream()))
    while not provider.asked:
        await asyncio.sleep(0.001)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert not pool._busy
    assert not any(pool._idle.values())


async def test_chunks_come_as_they_are_sent(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    provider.hold = asyncio.Event()
    provider.reply = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n"
    )
    answer = await make_upstream().send_request("POST", MESSAGES, (), stream(b"{}"))
    pieces = answer.body()
    async with asyncio.timeout(20):
        assert [await anext(pieces), await anext(pieces)] == [b"one", b"two"]
    await answer.close()
    provider.hold.set()


async def test_the_demo_has_no_upstream() -> None:
    factory = ModelUpstreamFactory()
    with pytest.raises(TurnFailure, match="demo"):
        await factory.upstream(DEMO_MODEL)
    await factory.close()


async def test_upstreams_of_one_factory_share_their_connections(provider: Provider) -> None:
    factory = ModelUpstreamFactory()
    choice = SelectedModel("p", "m", "anthropic", f"http://127.0.0.1:{provider.port}/", KEY)
    for _ in range(2):
        await post(await factory.upstream(choice))
    assert provider.connections == 1
    await factory.close()
    await factory.close()


# ------------------------------------------------------------------ TLS and proxies


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=model.test",
         "-addext", "subjectAltName=DNS:model.test,DNS:localhost"],
        capture_output=True, timeout=30,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return key, cert


async def secure(stack: AsyncExitStack, certificate: tuple[Path, Path]) -> Provider:
    outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    outside.load_cert_chain(certificate[1], certificate[0])
    return await serving(stack, Provider(), ssl=outside)


@dataclass
class Proxy:
    """An HTTP proxy of the server's environment; everything leads to ``port``."""

    port: int
    asked: list[bytes] = field(default_factory=list)
    answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        if head.startswith(b"CONNECT"):
            writer.write(self.answer)
        else:
            far_writer.write(head)

        async def flow(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                return
            finally:
                sink.close()

        await asyncio.gather(flow(reader, far_writer), flow(far_reader, writer))


async def proxying(stack: AsyncExitStack, proxy: Proxy) -> str:
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await proxy(reader, writer)

    async def stop() -> None:
        server.close()
        await asyncio.wait(tasks)

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    stack.push_async_callback(stop)
    return f"http://us%65r:p%40ss@127.0.0.1:{server.sockets[0].getsockname()[1]}"


def trusting(certificate: tuple[Path, Path]) -> ConnectionPool:
    return ConnectionPool(ssl.create_default_context(cafile=str(certificate[1])))


async def test_the_certificate_of_a_provider_is_verified(
    stack: AsyncExitStack, certificate: tuple[Path, Path], pool: ConnectionPool
) -> None:
    provider = await secure(stack, certificate)
    url = f"https://localhost:{provider.port}"
    choice = SelectedModel("p", "m", "anthropic", url, KEY)
    ours = trusting(certificate)
    stack.callback(ours.close)
    assert (await post(ProviderUpstream(choice, url, ours)))[2] == b"ok"
    with pytest.raises(OSError, match="certificate is not trusted"):
        await post(ProviderUpstream(choice, url, pool))
    assert len(provider.asked) == 1


async def test_a_proxy_of_the_environment_is_used(
    stack: AsyncExitStack,
    certificate: tuple[Path, Path],
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tls = await secure(stack, certificate)
    ours = trusting(certificate)
    https, http = Proxy(tls.port), Proxy(provider.port)
    monkeypatch.setenv("HTTPS_PROXY", await proxying(stack, https))
    monkeypatch.setenv("HTTP_PROXY", await proxying(stack, http))
    for url in ("https://model.test", "http://model.test:8080/base"):
        upstream = ProviderUpstream(SelectedModel("p", "m", "anthropic", url, KEY), url, ours)
        assert (await post(upstream, headers=[("content-length", "2")]))[2] == b"ok"
    ours.close()
    assert https.asked[0].startswith(b"CONNECT model.test:443 HTTP/1.1\r\n")
    assert KEY.encode() not in https.asked[0]
    assert http.asked[0].startswith(b"POST http://model.test:8080/base/v1/messages HTTP/1.1\r\n")
    for head in (https.asked[0], http.asked[0]):
        assert b"proxy-authorization: Basic dXNlcjpwQHNz\r\n" in head
    assert b"proxy-authorization" not in tls.asked[0]


async def test_a_proxy_that_refuses_is_reported_without_its_password(
    stack: AsyncExitStack,
    pool: ConnectionPool,
    monkeypatch: pytest.MonkeyPatch,
    provider: Provider,
) -> None:
    proxy = Proxy(provider.port, answer=b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setenv("HTTPS_PROXY", await proxying(stack, proxy))
    url = "https://model.test"
    with pytest.raises(OSError, match="proxy refused") as failed:
        await post(ProviderUpstream(SelectedModel("p", "m", "anthropic", url, KEY), url, pool))
    assert "p@ss" not in str(failed.value)


def test_this_machine_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "direct.test,other.test:81")
    for host in ("localhost", "a.localhost", "127.0.0.1", "::1", "direct.test", "a.direct.test"):
        assert proxy_for(UpstreamAddress(False, host, 80)) is None
    assert proxy_for(UpstreamAddress(False, "other.test", 81)) is None
    assert proxy_for(UpstreamAddress(True, "model.test", 443)) is None
    found = proxy_for(UpstreamAddress(False, "other.test", 80))
    assert found is not None
    assert (found.hostname, found.port) == ("proxy.test", 3128)


async def test_a_proxy_of_another_kind_is_refused(
    pool: ConnectionPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:pw@127.0.0.1:1")
    url = "https://model.test"
    with pytest.raises(OSError, match="no http:// one") as failed:
        await post(ProviderUpstream(SelectedModel("p", "m", "anthropic", url, KEY), url, pool))
    assert "pw" not in str(failed.value)


def test_the_trust_is_that_of_the_servers_own_requests() -> None:
    context = tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


# ------------------------------------------------------------------ masking


def test_only_a_partial_match_of_the_secret_is_held_back() -> None:
    masker = SecretMasker("secret-secret-key")
    assert masker.feed(b"data: plain\n\n") == b"data: plain\n\n"
    assert masker.feed(b"a secret-") == b"a "
    assert masker.feed(b"secret-") == b""
    assert masker.feed(b"secret-key!") == b"secret-" + b"*" * 17 + b"!"
    assert masker.feed(b"secr") == b""
    assert masker.end() == b"secr"


def test_what_is_no_secret_is_not_masked() -> None:
    for secret in ("", "short"):
        assert SecretMasker(secret).feed(b"a short text") == b"a short text"


async def test_the_placeholder_of_a_server_without_key_is_no_secret(
    make_upstream: MakeUpstream, provider: Provider
) -> None:
    said = json.dumps({"key": NO_KEY}).encode()
    provider.reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said)
    assert (await post(make_upstream(key=NO_KEY)))[2] == said
