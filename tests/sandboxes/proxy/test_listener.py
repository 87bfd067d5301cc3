"""Which connections are accepted, how many, and a listener whose other owner is hostile."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from loopat_jupyter.sandboxes.proxy import listener as listener_module
from loopat_jupyter.sandboxes.proxy import peer_uid
from loopat_jupyter.sandboxes.proxy.connection import ClientConnection
from loopat_jupyter.sandboxes.proxy.connection_limit import GUARANTEED, ConnectionLimiter
from loopat_jupyter.sandboxes.proxy.listener import Listener
from tests.sandboxes.proxy.conftest import ProxyFixture

OTHER_USER = 61_234
"""A user id that runs nothing else here."""


# ------------------------------------------------------------------ a listener of two processes


class HostileOwner:
    """The process that made a listener. Between the event that announces a connection and the
    server's accept it accepts the first connection itself, and makes the listener block."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.listener = listener.dup()
        self.accepted: list[socket.socket] = []
        self.listening = Listener(listener, "loop_1", private=False)
        self._start = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", lambda thread: self.accept_first(thread))

    def accept_first(self, thread: threading.Thread) -> None:
        if thread.name == "loopat-accept" and not self.accepted:
            self.accepted.append(self.listener.accept()[0])
            flags = fcntl.fcntl(self.listener, fcntl.F_GETFL)
            fcntl.fcntl(self.listener, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
        self._start(thread)

    def close(self) -> None:
        for each in (self.listener, *self.accepted):
            each.close()


@pytest.fixture
def hostile_owner(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileOwner]:
    hostile_owner = HostileOwner(monkeypatch)
    yield hostile_owner
    hostile_owner.close()


async def test_a_listener_that_is_made_to_block_holds_up_no_other(
    hostile_owner: HostileOwner,
) -> None:
    first = socket.create_connection(hostile_owner.address)
    accepting = asyncio.ensure_future(hostile_owner.listening.accept())
    async with asyncio.timeout(20):
        while not hostile_owner.accepted:
            await asyncio.sleep(0)
        for _ in range(50):  # the event loop runs, and no connection was accepted
            await asyncio.sleep(0.001)
        assert not accepting.done()
        second = socket.create_connection(hostile_owner.address)  # the next one is accepted
        connection = await accepting
    assert connection is not None
    assert connection.getpeername() == second.getsockname()
    assert not connection.getblocking()
    await hostile_owner.listening.close()
    for each in (first, second, connection):
        each.close()


async def test_a_thread_that_was_made_to_wait_ends_with_its_proxy(
    hostile_owner: HostileOwner,
) -> None:
    first = socket.create_connection(hostile_owner.address)
    accepting = asyncio.ensure_future(hostile_owner.listening.accept())
    async with asyncio.timeout(20):
        while not hostile_owner.accepted:
            await asyncio.sleep(0)
        [thread] = [t for t in threading.enumerate() if t.name == "loopat-accept"]
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        await hostile_owner.listening.close()
        await asyncio.to_thread(thread.join)
    assert hostile_owner.listening._socket.fileno() == -1
    first.close()


async def test_a_connection_that_is_accepted_after_a_cancellation_is_closed() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listening = Listener(listener, "loop_1", private=False)
    client = socket.create_connection(listener.getsockname())
    client.setblocking(False)
    accepting = asyncio.ensure_future(listening.accept())
    while listening._accepting is None:
        await asyncio.sleep(0)
    accepting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await accepting
    async with asyncio.timeout(20):
        await listening.close()
        with contextlib.suppress(ConnectionResetError):  # closed before it was accepted
            assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
    client.close()


async def test_without_threads_a_client_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listening = Listener(listener, "loop_1", private=False)
    monkeypatch.setattr(listener_module, "ACCEPT_RETRY", 0.01)
    start, refused = threading.Thread.start, []

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "loopat-accept" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    client = socket.create_connection(listener.getsockname())
    async with asyncio.timeout(20):
        connection = await listening.accept()
    assert refused
    assert connection is not None
    assert "cannot accept a connection" in caplog.text
    await listening.close()
    connection.close()
    client.close()


# ------------------------------------------------------------------ whose the other end is


AS_OTHER_USER = """
import socket, sys
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(100)]
print(len(held), flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def ours() -> AsyncIterator[ProxyFixture]:
    """A proxy on the host's own loopback, for this user alone."""
    async with AsyncExitStack() as stack:
        yield ProxyFixture(stack, shared=True, user=os.geteuid()).open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
async def test_another_user_cannot_take_a_sandboxes_connections(ours: ProxyFixture) -> None:
    other = await asyncio.create_subprocess_exec(
        *("/usr/bin/python3", "-I", "-c", AS_OTHER_USER, str(ours.port)),
        user=OTHER_USER,
        group=OTHER_USER,
        extra_groups=[],
        cwd="/",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    async with asyncio.timeout(20):
        assert await other.stdout.readline() == b"100\n"
        status, _, _ = await (await ours.client()).refusal("GET", "http://a.test/")
        assert status == 407  # accepted, and required to send the key
        assert len(ours.proxy._connections) <= 1
        await other.communicate(b"")
    assert [line.reason for line in await ours.audited()] == [
        "The request does not hold the sandbox's proxy key."
    ]


def pair() -> tuple[socket.socket, socket.socket, socket.socket]:
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    return server, client, server.accept()[0]


@pytest.mark.parametrize("diagnostics", [True, False], ids=["asked", "looked-up"])
def test_the_other_end_is_known(monkeypatch: pytest.MonkeyPatch, diagnostics: bool) -> None:
    def without(*_: object) -> None:
        raise OSError("no such protocol")

    if not diagnostics:
        monkeypatch.setattr(peer_uid, "_ask_kernel", without)
    server, client, accepted = pair()
    assert peer_uid.peer_uid(accepted, 7) == os.geteuid()
    client.close()
    server.close()
    accepted.close()
    assert peer_uid.peer_uid(accepted, 7) is None


def test_where_the_kernel_says_nothing_the_key_alone_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without(*_: object) -> None:
        raise OSError("no such file")

    monkeypatch.setattr(peer_uid, "_ask_kernel", without)
    monkeypatch.setattr(peer_uid, "_look_up_in_table", without)
    ends = pair()
    assert peer_uid.peer_uid(ends[2], 7) == 7
    for end in ends:
        end.close()


# ------------------------------------------------------------------ how many


async def test_many_sandboxes_together_have_a_bound_and_each_is_sure_of_some() -> None:
    limiter = ConnectionLimiter(6)
    async with AsyncExitStack() as stack:
        proxies = [ProxyFixture(stack, limiter=limiter).open() for _ in range(3)]
        greedy, second, third = proxies

        async def take(proxied: ProxyFixture, count: int) -> int:
            for _ in range(count):
                before = len(proxied.proxy._connections)
                client = await proxied.client()
                client.write(b"GET / HTTP/1.1\r\n")
                async with asyncio.timeout(20):
                    gone = asyncio.ensure_future(client.reader.read())
                    while len(proxied.proxy._connections) == before and not gone.done():
                        await asyncio.sleep(0)
                gone.cancel()
            return len(proxied.proxy._connections)

        assert await take(greedy, 20) == GUARANTEED + 6
        assert await take(second, 20) == GUARANTEED
        assert await take(third, 1) == 1
        await greedy.proxy.close()
        assert await take(third, 20) == GUARANTEED + 6
    assert limiter._shared == 0


async def test_a_client_that_leaves_while_another_connects_is_not_counted(
    proxied: ProxyFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = ClientConnection.accept

    async def received(connection: socket.socket) -> ClientConnection:
        client = await receive(connection)
        if len(proxied.proxy._connections) == GUARANTEED:
            leaving = next(iter(proxied.proxy._connections))
            leaving.cancel()
            while leaving in proxied.proxy._connections:
                await asyncio.sleep(0)
        return client

    monkeypatch.setattr(ClientConnection, "accept", received)
    for _ in range(GUARANTEED + 3):
        before = set(proxied.proxy._connections)
        await proxied.client()
        async with asyncio.timeout(20):
            while not proxied.proxy._connections - before:
                await asyncio.sleep(0)
    assert len(proxied.proxy._connections) == GUARANTEED
    assert proxied.limiter._shared == 0
    await proxied.proxy.close()
    assert proxied.limiter._shared == 0


def test_the_bound_follows_the_files_that_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for soft in (4096, 1024, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        found.append(ConnectionLimiter().limit)
    assert found == [512, 128, 4096]
