"""The egress proxy, attacked from inside a real sandbox.

The targets are real servers on this machine's loopback. Where an attack needs a destination that
may be reached, the proxy gets a
resolver for which names below ``test`` lead there and that address is public.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from loopat_jupyter.context.config_file import SelectedModel
from loopat_jupyter.engines.gateway.http_pool import ConnectionPool
from loopat_jupyter.engines.gateway.upstream import ProviderUpstream
from loopat_jupyter.loops.destinations import Destination, parse_pattern
from loopat_jupyter.loops.errors import SandboxLost
from loopat_jupyter.loops.ports.network import Egress, GatewayAccess
from loopat_jupyter.loops.ports.sandbox import Sandbox
from loopat_jupyter.sandboxes.proxy.dialer import Dialer
from tests.sandboxes.conftest import SECRET, Started, bind_to_free_port, inside, outside

pytestmark = pytest.mark.slow(15)

KEY = f"sk-{SECRET}-0123456789"

SEND_SCRIPT = r"""
import base64, os, socket, sys
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
auth = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
for said in sys.argv[1:]:
    said = base64.b64decode(said).replace(b"AUTH", b"Proxy-Authorization: Basic " + auth.encode())
    way = socket.create_connection((proxy.hostname, proxy.port), 20)
    way.sendall(said)
    way.shutdown(socket.SHUT_WR)
    got = b""
    while piece := way.recv(65536):
        got += piece
    print(got.decode("latin-1").replace("\r\n", "\n"))
    print("-----")
"""
"""Sends raw bytes to the proxy that the environment names, and prints the responses."""


async def send_raw(sandbox: Sandbox, *said: bytes) -> list[str]:
    given = " ".join(base64.b64encode(one).decode() for one in said)
    await sandbox.file("write", path="send.py", text=SEND_SCRIPT)
    return (await inside(sandbox, f"python3 send.py {given}")).split("-----\n")[:-1]


def connect(target: str | bytes, then: bytes = b"") -> bytes:
    raw = target.encode() if isinstance(target, str) else target
    return b"CONNECT " + raw + b" HTTP/1.1\r\nHost: x\r\nAUTH\r\n\r\n" + then


def get(target: str | bytes) -> bytes:
    raw = target.encode() if isinstance(target, str) else target
    return b"GET " + raw + b" HTTP/1.1\r\nHost: x\r\nAUTH\r\nConnection: close\r\n\r\n"


@dataclass
class TargetServer:
    """A server on the host that sends the secret to every client."""

    port: int = 0
    heard: list[bytes] = field(default_factory=list)
    connections: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    say: Any = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heard.append(head)
            said = (self.say(head) if self.say else SECRET).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            self.tasks.discard(task)
            writer.close()


@pytest.fixture
async def target() -> AsyncIterator[TargetServer]:
    target = TargetServer()
    listener = socket.socket()
    target.port = bind_to_free_port(listener, "127.0.0.1")  # every connection is counted
    server = await asyncio.start_server(target.serve, sock=listener)
    yield target
    server.close()
    if target.tasks:
        await asyncio.wait(target.tasks)


def allow(sandbox: Sandbox, *patterns: str) -> None:
    sandbox.network.set_policy(Egress(tuple(map(parse_pattern, patterns))))


def pretend_public(sandbox: Sandbox) -> None:
    """Names below ``test`` lead to this machine, and that is the internet."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        if not host.endswith(".test"):
            raise OSError("no such name")
        return ["127.0.0.1"]

    proxy: Any = sandbox.network
    proxy._egress._dialer = Dialer(resolve, lambda address: address == "127.0.0.1")


# ------------------------------------------------------------------ out, where it is allowed


async def test_programs_find_the_proxy_in_their_environment_and_use_it(
    isolated: Started, target: TargetServer
) -> None:
    code = (
        "import urllib.request as r, urllib.error as e\n"
        "try: print(r.urlopen('http://allowed.test:PORT/x').read().decode())\n"
        "except e.HTTPError as x: print(x.code, x.reason, x.read().decode())\n"
    ).replace("PORT", str(target.port))
    async with isolated() as sandbox:
        pretend_public(sandbox)
        await sandbox.file("write", path="get.py", text=code)
        refused = await inside(sandbox, "python3 get.py")
        assert "403" in refused
        assert refused.count("is not on the allow-list of this loop") == 2  # the status line too
        allow(sandbox, f"allowed.test:{target.port}")
        assert SECRET in await inside(sandbox, "python3 get.py")
        assert (await inside(sandbox, "echo $NO_PROXY")).strip() == "localhost,127.0.0.1,::1"


async def test_a_host_is_matched_by_its_one_spelling(
    isolated: Started, target: TargetServer
) -> None:
    port = target.port
    then = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    good = [f"XN--BCHER-kva.TEST:{port}", f"xn--bcher-KVA.Test.:{port}", f"A.below.TEST.:{port}"]
    bad = [
        f"below.test:{port}", f"evilbelow.test:{port}", f"xn--bcher-kva.test.evil.test:{port}",
        f"a.xn--bcher-kva.test:{port}", f"xn--bcher-kva.test..:{port}", f".below.test:{port}",
        f"a..below.test:{port}", f"a_b.below.test:{port}", f"xn--evil-.below.test:{port}",
        f"a%2ebelow.test:{port}", "a.below.test:22",
    ]  # fmt: skip
    raw = [
        f"evil.test\0.below.test:{port}".encode(), f"evil.test%00.below.test:{port}".encode(),
        f"bücher.test:{port}".encode(), f"evil.test\\.below.test:{port}".encode(),
        f"a@b.below.test:{port}".encode(), f"a.below.test:{port}\t".encode(),
    ]  # fmt: skip
    async with isolated() as sandbox:
        pretend_public(sandbox)
        allow(sandbox, f"bücher.test:{port}", f"*.below.test:{port}")
        answers = await send_raw(sandbox, *(connect(one, then) for one in good))
        assert [SECRET in answer for answer in answers] == [True] * len(good)
        reached = target.connections
        answers = await send_raw(sandbox, *(connect(one, then) for one in [*bad, *raw]))
        assert len(answers) == len(bad) + len(raw)
        assert all(answer.startswith(("HTTP/1.1 40", "HTTP/1.1 43")) for answer in answers)
        assert target.connections == reached


# ------------------------------------------------------------------ nowhere else

LOOPBACK = [
    "127.0.0.1", "127.0.0.1.", "localhost", "LOCALHOST.", "a.localhost", "2130706433",
    "0177.0.0.1", "017700000001", "0x7f.0.0.1", "0x7F000001", "127.1", "127.0.1", "0.0.0.0", "0",
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[::1%lo]", "[::1%25lo]",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "0251.0376.0251.0376", "2852039166", "0xA9FEA9FE", "169.254.43518",
    "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]", "100.100.100.200",
]  # fmt: skip


async def test_the_servers_own_networks_are_out_of_reach(
    isolated: Started, target: TargetServer
) -> None:
    port = target.port
    direct = f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected"
    assert "connected" in await asyncio.to_thread(outside, direct)
    async with asyncio.timeout(20):
        while not (before := target.connections):  # the server may hear of it later
            await asyncio.sleep(0)
    hosts = [*(f"{host}:{port}" for host in LOOPBACK), *(f"{host}:80" for host in METADATA)]
    asked = [connect(host) for host in hosts] + [get(f"http://{host}/") for host in hosts]
    async with isolated() as sandbox:
        # Not even where an administrator lists them, or a person allows them.
        allow(sandbox, f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}",
              "169.254.169.254:80", "[fd00:ec2::254]:80", "100.100.100.200:80")  # fmt: skip
        sandbox.network.set_grants([Destination("127.0.0.1", port), Destination("localhost", port)])
        answers = await send_raw(sandbox, *asked)
        assert len(answers) == len(asked)
        for said, answer in zip(asked, answers, strict=True):
            assert answer.startswith(("HTTP/1.1 400 ", "HTTP/1.1 403 ")), (said, answer)
            assert SECRET not in answer
        assert sandbox.network.drain_denied() == []  # and no person is asked about them
    assert target.connections == before


async def test_an_allowed_name_cannot_be_led_back_inside(
    isolated: Started, target: TargetServer
) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["8.8.8.8", "127.0.0.1"] if host == "two.test" else ["127.0.0.1"]

    async with isolated() as sandbox:
        proxy: Any = sandbox.network
        proxy._egress._dialer = Dialer(resolve)
        allow(sandbox, f"*.rebinding.test:{target.port}", f"two.test:{target.port}")
        names = [f"a.rebinding.test:{target.port}", f"two.test:{target.port}"]
        answers = await send_raw(
            sandbox, *map(connect, names), *(get(f"http://{n}/") for n in names)
        )
        assert [answer[:13] for answer in answers] == ["HTTP/1.1 403 "] * 4
        assert all("no sandbox may reach" in answer for answer in answers)
    assert target.connections == 0


async def test_names_are_not_resolved_inside(isolated: Started) -> None:
    """A name server is never asked by the agent: a lookup carries data out."""
    asking = "import socket; socket.socket(2, 2).sendto(b'a query', ('127.0.0.1', PORT))"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_server:
        name_server.bind(("127.0.0.1", 0))
        attack = f'python3 -c "{asking}"'.replace("PORT", str(name_server.getsockname()[1]))
        outside(attack)
        name_server.settimeout(20)
        assert name_server.recv(100) == b"a query"
        async with isolated() as sandbox:
            await inside(sandbox, attack)
            looked = await inside(sandbox, "getent ahosts example.org; echo $?")
            assert looked.strip() not in ("", "0")
            assert "STREAM" not in looked
        name_server.setblocking(False)
        with pytest.raises(BlockingIOError):
            name_server.recv(100)


async def test_a_tunnel_ends_with_its_sandbox(isolated: Started) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        begun.set()
        try:
            await reader.read()
        except OSError:
            pass
        finally:
            ended.set()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    hold = SEND_SCRIPT.replace("way.shutdown(socket.SHUT_WR)", "")
    try:
        async with isolated() as sandbox, asyncio.timeout(60):
            pretend_public(sandbox)
            allow(sandbox, f"a.test:{port}")
            await sandbox.file("write", path="hold.py", text=hold)
            said = base64.b64encode(connect(f"a.test:{port}", b"hello")).decode()
            await sandbox.run(f"python3 hold.py {said}", timeout=30, background=True)
            await begun.wait()
            await sandbox.stop()
            await ended.wait()
    finally:
        server.close()


# ------------------------------------------------------------------ the model gateway


@pytest.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    pool = ConnectionPool(ssl.create_default_context())
    yield pool
    pool.close()


async def open_gateway(
    sandbox: Sandbox, target: TargetServer, pool: ConnectionPool
) -> GatewayAccess:
    url = f"http://127.0.0.1:{target.port}"
    choice = SelectedModel("p", "m", "anthropic", url, KEY, models=("m",))
    return await sandbox.network.open_model_gateway(ProviderUpstream(choice, url, pool))


MODEL = r"""
import json, os, sys, urllib.error, urllib.request
url, key, path, method, model = sys.argv[1:]
data = json.dumps({"model": model}).encode() if method == "POST" else None
headers = {"x-api-key": key, "x-forwarded-host": "evil"}
asked = urllib.request.Request(url + path, data=data, method=method, headers=headers)
try:
    answer = urllib.request.urlopen(asked)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, dict(answer.headers), answer.read().decode())
"""


async def ask(
    sandbox: Sandbox, access: GatewayAccess, path: str, method: str = "POST", model: str = "m"
) -> str:
    await sandbox.file("write", path="model.py", text=MODEL)
    return await inside(
        sandbox, f"python3 model.py {access.url} {access.key} '{path}' {method} {model}"
    )


async def test_the_real_key_never_comes_inside(
    isolated: Started, target: TargetServer, pool: ConnectionPool
) -> None:
    target.say = lambda head: json.dumps({"error": head.decode()})  # a provider that echoes headers
    look = (
        "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'; cat /workdir/* ~/.*"
    )
    async with isolated() as sandbox:
        access = await open_gateway(sandbox, target, pool)
        response = await ask(sandbox, access, "/v1/messages")
        assert response.startswith("200")
        assert KEY.encode() in target.heard[0]
        assert KEY not in response
        assert "*" * len(KEY) in response
        assert access.key.encode() not in target.heard[0]
        assert b"forwarded" not in target.heard[0]
        assert KEY not in await inside(sandbox, look)


async def test_only_the_opened_model_can_be_requested(
    isolated: Started, target: TargetServer, pool: ConnectionPool
) -> None:
    async with isolated() as sandbox:
        access = await open_gateway(sandbox, target, pool)
        for path, method in [
            ("/v1/files", "GET"), ("/v1/messages", "GET"), ("/v1/messages", "DELETE"),
            ("/v1/messages/../files", "POST"), ("/v1/%2e%2e/v1/files", "GET"),
            ("//v1/messages", "POST"), ("/v1/messages?key=x", "POST"), ("/v1/messages%3f", "POST"),
        ]:  # fmt: skip
            assert (await ask(sandbox, access, path, method)).startswith("403"), path
        other = await ask(sandbox, access, "/v1/messages", model="expensive")
        assert other.startswith("403")
        assert "is not enabled in config.json" in other
        assert target.heard == []


async def test_a_gateway_is_open_for_a_turn_and_to_one_sandbox(
    isolated: Started, target: TargetServer, pool: ConnectionPool
) -> None:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(isolated())
        other = await stack.enter_async_context(isolated())
        access, others = (
            await open_gateway(one, target, pool),
            await open_gateway(other, target, pool),
        )
        assert (await ask(one, access, "/v1/messages")).startswith("200")
        assert (await ask(one, GatewayAccess(access.url, others.key), "/v1/messages")).startswith(
            "401"
        )
        one.network.close_model_gateway()
        ended = await ask(one, access, "/v1/messages")
        assert ended.startswith("403")
        assert "only while" in ended
        assert (await ask(other, others, "/v1/messages")).startswith("200")
        await one.stop()
        with pytest.raises(SandboxLost):
            await open_gateway(one, target, pool)
