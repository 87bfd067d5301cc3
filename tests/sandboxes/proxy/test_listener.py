"""Who may come in, how many, and a door whose other holder is hostile."""

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

from loopat_jupyter.sandboxes.proxy import listener, peer_uid
from loopat_jupyter.sandboxes.proxy.connection import ClientConnection
from loopat_jupyter.sandboxes.proxy.connection_limit import GUARANTEED, ConnectionLimiter
from loopat_jupyter.sandboxes.proxy.listener import Listener
from tests.sandboxes.proxy.conftest import Ground

SOMEBODY = 61_234
"""A user id that runs nothing else here."""


# ------------------------------------------------------------------ a door that another holds


class Thief:
    """The other holder of a door. Between the event that says that somebody is there and the
    accept it takes the first visitor away, and makes the door block."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        door = socket.create_server(("127.0.0.1", 0))
        self.address = door.getsockname()
        self.door = door.dup()
        self.taken: list[socket.socket] = []
        self.entrance = Listener(door, "loop_1", private=False)
        self._start = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", lambda thread: self.steal(thread))

    def steal(self, thread: threading.Thread) -> None:
        if thread.name == "loopat-accept" and not self.taken:
            self.taken.append(self.door.accept()[0])
            flags = fcntl.fcntl(self.door, fcntl.F_GETFL)
            fcntl.fcntl(self.door, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
        self._start(thread)

    def close(self) -> None:
        for each in (self.door, *self.taken):
            each.close()


@pytest.fixture
def thief(monkeypatch: pytest.MonkeyPatch) -> Iterator[Thief]:
    thief = Thief(monkeypatch)
    yield thief
    thief.close()


async def test_a_door_that_is_made_to_block_holds_up_nobody(thief: Thief) -> None:
    first = socket.create_connection(thief.address)
    coming = asyncio.ensure_future(thief.entrance.accept())
    async with asyncio.timeout(20):
        while not thief.taken:
            await asyncio.sleep(0)
        for _ in range(50):  # the loop lives, and nobody came
            await asyncio.sleep(0.001)
        assert not coming.done()
        second = socket.create_connection(thief.address)  # the next visitor is taken in
        connection = await coming
    assert connection is not None
    assert connection.getpeername() == second.getsockname()
    assert not connection.getblocking()
    await thief.entrance.close()
    for each in (first, second, connection):
        each.close()


async def test_a_thread_that_was_made_to_wait_ends_with_its_broker(thief: Thief) -> None:
    first = socket.create_connection(thief.address)
    coming = asyncio.ensure_future(thief.entrance.accept())
    async with asyncio.timeout(20):
        while not thief.taken:
            await asyncio.sleep(0)
        [thread] = [t for t in threading.enumerate() if t.name == "loopat-accept"]
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming
        await thief.entrance.close()
        await asyncio.to_thread(thread.join)
    assert thief.entrance._socket.fileno() == -1
    first.close()


async def test_whom_the_thread_takes_in_when_nobody_waits_any_more_is_let_go() -> None:
    door = socket.create_server(("127.0.0.1", 0))
    way_in = Listener(door, "loop_1", private=False)
    client = socket.create_connection(door.getsockname())
    client.setblocking(False)
    coming = asyncio.ensure_future(way_in.accept())
    while way_in._accepting is None:
        await asyncio.sleep(0)
    coming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await coming
    async with asyncio.timeout(20):
        await way_in.close()
        with contextlib.suppress(ConnectionResetError):  # the door was shut before it was taken in
            assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
    client.close()


async def test_without_threads_a_visitor_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    door = socket.create_server(("127.0.0.1", 0))
    way_in = Listener(door, "loop_1", private=False)
    monkeypatch.setattr(listener, "ACCEPT_RETRY", 0.01)
    start, refused = threading.Thread.start, []

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "loopat-accept" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    client = socket.create_connection(door.getsockname())
    async with asyncio.timeout(20):
        connection = await way_in.accept()
    assert refused
    assert connection is not None
    assert "cannot accept a connection" in caplog.text
    await way_in.close()
    connection.close()
    client.close()


# ------------------------------------------------------------------ whose the other end is


AS_SOMEBODY = """
import socket, sys
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(100)]
print(len(held), flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def ours() -> AsyncIterator[Ground]:
    """A broker on the host's own loopback, for this user alone."""
    async with AsyncExitStack() as stack:
        yield Ground(stack, shared=True, user=os.geteuid()).open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
async def test_another_user_cannot_take_a_sandboxes_connections(ours: Ground) -> None:
    other = await asyncio.create_subprocess_exec(
        *("/usr/bin/python3", "-I", "-c", AS_SOMEBODY, str(ours.port)),
        user=SOMEBODY,
        group=SOMEBODY,
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
        assert status == 407  # taken in, and asked for the key
        assert len(ours.broker._connections) <= 1
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
    crowd = ConnectionLimiter(6)
    async with AsyncExitStack() as stack:
        grounds = [Ground(stack, crowd=crowd).open() for _ in range(3)]
        greedy, second, third = grounds

        async def take(ground: Ground, count: int) -> int:
            for _ in range(count):
                before = len(ground.broker._connections)
                client = await ground.client()
                client.write(b"GET / HTTP/1.1\r\n")
                async with asyncio.timeout(20):
                    gone = asyncio.ensure_future(client.reader.read())
                    while len(ground.broker._connections) == before and not gone.done():
                        await asyncio.sleep(0)
                gone.cancel()
            return len(ground.broker._connections)

        assert await take(greedy, 20) == GUARANTEED + 6
        assert await take(second, 20) == GUARANTEED
        assert await take(third, 1) == 1
        await greedy.broker.close()
        assert await take(third, 20) == GUARANTEED + 6
    assert crowd._shared == 0


async def test_who_leaves_while_another_comes_in_keeps_no_place(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = ClientConnection.accept

    async def received(connection: socket.socket) -> ClientConnection:
        visitor = await receive(connection)
        if len(ground.broker._connections) == GUARANTEED:
            leaving = next(iter(ground.broker._connections))
            leaving.cancel()
            while leaving in ground.broker._connections:
                await asyncio.sleep(0)
        return visitor

    monkeypatch.setattr(ClientConnection, "accept", received)
    for _ in range(GUARANTEED + 3):
        before = set(ground.broker._connections)
        await ground.client()
        async with asyncio.timeout(20):
            while not ground.broker._connections - before:
                await asyncio.sleep(0)
    assert len(ground.broker._connections) == GUARANTEED
    assert ground.crowd._shared == 0
    await ground.broker.close()
    assert ground.crowd._shared == 0


def test_the_bound_follows_the_files_that_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for soft in (4096, 1024, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        found.append(ConnectionLimiter().limit)
    assert found == [512, 128, 4096]
