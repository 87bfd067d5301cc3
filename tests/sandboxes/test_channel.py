"""The channel trusts nothing: descriptors that are not expected end the sandbox."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from loopat_jupyter.loops.errors import SandboxLost
from loopat_jupyter.sandboxes.inside import protocol
from loopat_jupyter.sandboxes.runtime.channel import Channel

LISTENER = protocol.encode_frame(protocol.LISTENER, 0)
READY = protocol.encode_frame(protocol.READY, 0)


@dataclass
class HostileSupervisor:
    """The other end of a channel, which may send anything."""

    end: socket.socket
    channel: Channel
    lost: asyncio.Future[str]
    listeners: list[socket.socket] = field(default_factory=list)

    def send(self, frame: bytes, *fds: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.end.sendmsg([frame], rights)

    async def outcome(self) -> str:
        async with asyncio.timeout(20):
            return await self.lost


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _connected(*, expects: bool) -> AsyncIterator[HostileSupervisor]:
    server_end, supervisor_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(why: str) -> None:
        channel.fail(SandboxLost(why))
        channel.close()
        if not lost.done():
            lost.set_result(why)

    listeners: list[socket.socket] = []
    channel = Channel(server_end, end, listeners.append if expects else None)
    yield HostileSupervisor(supervisor_end, channel, lost, listeners)
    channel.close()
    supervisor_end.close()
    for listener in listeners:
        listener.close()


@pytest.fixture
async def supervisor() -> AsyncIterator[HostileSupervisor]:
    async for one in _connected(expects=True):
        yield one


@pytest.fixture
async def unexpected() -> AsyncIterator[HostileSupervisor]:
    """Of a sandbox whose listener the server opens itself."""
    async for one in _connected(expects=False):
        yield one


@pytest.fixture
def files() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_listener(stack: ExitStack, family: int = socket.AF_INET) -> int:
    listener = stack.enter_context(socket.socket(family))
    listener.bind(f"\0loopat-test-{os.getpid()}" if family == socket.AF_UNIX else ("", 0))
    listener.listen()
    return listener.fileno()


def no_listener(stack: ExitStack, kind: str) -> list[int]:
    """Descriptors that are no listener of an egress proxy."""
    if kind == "a pipe":
        ends = os.pipe()
        stack.callback(lambda: [os.close(end) for end in ends])
        return [ends[0]]
    if kind == "a directory":
        one = os.open("/", os.O_RDONLY)
        stack.callback(os.close, one)
        return [one]
    if kind == "a socket that does not listen":
        return [stack.enter_context(socket.socket()).fileno()]
    if kind == "a datagram socket":
        return [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)).fileno()]
    if kind == "a unix socket":
        return [open_listener(stack, socket.AF_UNIX)]
    if kind == "an IPv6 socket":
        return [open_listener(stack, socket.AF_INET6)]
    assert kind == "two"
    return [open_listener(stack), open_listener(stack)]


async def test_one_listening_socket_with_its_frame_is_the_proxys_listener(
    supervisor: HostileSupervisor, files: ExitStack
) -> None:
    supervisor.send(READY)
    supervisor.send(LISTENER, open_listener(files))
    await supervisor.channel.ready
    while not supervisor.listeners:
        await asyncio.sleep(0)
    assert supervisor.listeners[0].getsockname()[1]
    assert not os.get_inheritable(supervisor.listeners[0].fileno())
    assert not supervisor.lost.done()


@pytest.mark.parametrize(
    "kind",
    [
        "a pipe", "a directory", "a socket that does not listen", "a datagram socket",
        "a unix socket", "an IPv6 socket", "two",
    ],
)  # fmt: skip
async def test_what_is_no_listener_ends_the_sandbox_and_is_closed(
    supervisor: HostileSupervisor, files: ExitStack, kind: str
) -> None:
    fds = no_listener(files, kind)
    before = open_files()
    supervisor.send(LISTENER, *fds)
    assert "unexpected descriptor" in await supervisor.outcome()
    assert supervisor.listeners == []
    assert open_files() == before - 1  # the channel's own


async def test_a_descriptor_with_another_frame_ends_the_sandbox(
    supervisor: HostileSupervisor, files: ExitStack
) -> None:
    supervisor.send(READY, open_listener(files))
    assert "unexpected descriptor" in await supervisor.outcome()
    assert supervisor.listeners == []


async def test_a_listener_that_was_announced_but_did_not_come_ends_the_sandbox(
    supervisor: HostileSupervisor,
) -> None:
    supervisor.send(READY)
    supervisor.send(LISTENER)
    assert "unknown request" in await supervisor.outcome()


async def test_a_listener_that_is_not_expected_ends_the_sandbox(
    unexpected: HostileSupervisor, files: ExitStack
) -> None:
    listener = open_listener(files)
    unexpected.send(READY)
    await unexpected.channel.ready
    before = open_files()
    unexpected.send(LISTENER, listener)
    assert "unknown request" in await unexpected.outcome()
    assert open_files() == before - 1


async def test_a_second_listener_is_not_accepted(
    supervisor: HostileSupervisor, files: ExitStack
) -> None:
    supervisor.send(READY)
    await supervisor.channel.ready
    supervisor.send(LISTENER, open_listener(files))
    while not supervisor.listeners:
        await asyncio.sleep(0)
    before = open_files()
    supervisor.send(LISTENER, open_listener(files))
    supervisor.end.close()
    assert await supervisor.outcome() == "it ended"
    assert len(supervisor.listeners) == 1
    assert open_files() == before + 1 - 2  # what the test opened, less both ends of the channel


async def test_many_descriptors_at_once_are_all_closed(
    supervisor: HostileSupervisor, files: ExitStack
) -> None:
    fds = [files.enter_context(socket.socket()).fileno() for _ in range(200)]
    before = open_files()
    supervisor.send(LISTENER, *fds)
    assert "unexpected descriptor" in await supervisor.outcome()
    assert open_files() == before - 1
