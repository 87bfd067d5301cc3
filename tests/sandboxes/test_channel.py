"""The channel believes nothing: descriptors that nobody asked for end the sandbox."""

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

DOOR = protocol.encode_frame(protocol.LISTENER, 0)
READY = protocol.encode_frame(protocol.READY, 0)


@dataclass
class Rogue:
    """The other end of a channel, which may send what it likes."""

    end: socket.socket
    channel: Channel
    lost: asyncio.Future[str]
    doors: list[socket.socket] = field(default_factory=list)

    def send(self, frame: bytes, *fds: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.end.sendmsg([frame], rights)

    async def outcome(self) -> str:
        async with asyncio.timeout(20):
            return await self.lost


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _rogue(*, expects: bool) -> AsyncIterator[Rogue]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(why: str) -> None:
        channel.fail(SandboxLost(why))
        channel.close()
        if not lost.done():
            lost.set_result(why)

    doors: list[socket.socket] = []
    channel = Channel(ours, end, doors.append if expects else None)
    yield Rogue(theirs, channel, lost, doors)
    channel.close()
    theirs.close()
    for door in doors:
        door.close()


@pytest.fixture
async def rogue() -> AsyncIterator[Rogue]:
    async for one in _rogue(expects=True):
        yield one


@pytest.fixture
async def uninvited() -> AsyncIterator[Rogue]:
    """Of a sandbox whose door the server makes itself."""
    async for one in _rogue(expects=False):
        yield one


@pytest.fixture
def files() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, family: int = socket.AF_INET) -> int:
    door = stack.enter_context(socket.socket(family))
    door.bind(f"\0loopat-test-{os.getpid()}" if family == socket.AF_UNIX else ("", 0))
    door.listen()
    return door.fileno()


def unfit(stack: ExitStack, kind: str) -> list[int]:
    """Descriptors that are no door."""
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
        return [listening(stack, socket.AF_UNIX)]
    if kind == "an IPv6 socket":
        return [listening(stack, socket.AF_INET6)]
    assert kind == "two"
    return [listening(stack), listening(stack)]


async def test_one_listening_socket_with_its_frame_is_the_door(
    rogue: Rogue, files: ExitStack
) -> None:
    rogue.send(READY)
    rogue.send(DOOR, listening(files))
    await rogue.channel.ready
    while not rogue.doors:
        await asyncio.sleep(0)
    assert rogue.doors[0].getsockname()[1]
    assert not os.get_inheritable(rogue.doors[0].fileno())
    assert not rogue.lost.done()


@pytest.mark.parametrize(
    "kind",
    [
        "a pipe", "a directory", "a socket that does not listen", "a datagram socket",
        "a unix socket", "an IPv6 socket", "two",
    ],
)  # fmt: skip
async def test_what_is_no_door_ends_the_sandbox_and_is_closed(
    rogue: Rogue, files: ExitStack, kind: str
) -> None:
    fds = unfit(files, kind)
    before = open_files()
    rogue.send(DOOR, *fds)
    assert "descriptor nobody asked for" in await rogue.outcome()
    assert rogue.doors == []
    assert open_files() == before - 1  # the channel's own


async def test_a_descriptor_with_another_frame_ends_the_sandbox(
    rogue: Rogue, files: ExitStack
) -> None:
    rogue.send(READY, listening(files))
    assert "descriptor nobody asked for" in await rogue.outcome()
    assert rogue.doors == []


async def test_a_door_that_was_announced_but_did_not_come_ends_the_sandbox(rogue: Rogue) -> None:
    rogue.send(READY)
    rogue.send(DOOR)
    assert "nobody asked for" in await rogue.outcome()


async def test_a_door_nobody_waits_for_ends_the_sandbox(uninvited: Rogue, files: ExitStack) -> None:
    door = listening(files)
    uninvited.send(READY)
    await uninvited.channel.ready
    before = open_files()
    uninvited.send(DOOR, door)
    assert "nobody asked for" in await uninvited.outcome()
    assert open_files() == before - 1


async def test_a_second_door_is_not_taken_up(rogue: Rogue, files: ExitStack) -> None:
    rogue.send(READY)
    await rogue.channel.ready
    rogue.send(DOOR, listening(files))
    while not rogue.doors:
        await asyncio.sleep(0)
    before = open_files()
    rogue.send(DOOR, listening(files))
    rogue.end.close()
    assert await rogue.outcome() == "it ended"
    assert len(rogue.doors) == 1
    assert open_files() == before + 1 - 2  # what the test opened, less both ends of the channel


async def test_many_descriptors_at_once_are_all_closed(rogue: Rogue, files: ExitStack) -> None:
    fds = [files.enter_context(socket.socket()).fileno() for _ in range(200)]
    before = open_files()
    rogue.send(DOOR, *fds)
    assert "nobody asked for" in await rogue.outcome()
    assert open_files() == before - 1
