"""Spawned processes: streams both ways, backpressure, terminals."""

from __future__ import annotations

import asyncio

import pytest

from loopat_jupyter.loops.errors import SandboxLost
from loopat_jupyter.loops.ports.sandbox import Process
from loopat_jupyter.sandboxes.inside import protocol
from loopat_jupyter.sandboxes.runtime.spawned_process import StreamedProcess
from tests.sandboxes.conftest import Started, all_killed, inside, unlike

pytestmark = pytest.mark.slow(10)


async def everything(process: Process) -> bytes:
    found = bytearray()
    while data := await process.read():
        found += data
    return bytes(found)


async def test_streams_are_separate_and_the_code_comes_back(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        process = await sandbox.spawn(["bash", "-c", "cat; echo err >&2; exit 4"])
        await process.write(b"hello\n")
        await process.close_stdin()
        assert await everything(process) == b"hello\n"
        assert await process.read_stderr() == b"err\n"
        assert await process.wait() == 4
        assert process.pid > 0


async def test_megabytes_pass_through_unchanged(any_tier: Started) -> None:
    data = bytes(range(256)) * 12_000
    async with any_tier() as sandbox:
        process = await sandbox.spawn(["cat"])
        reading = asyncio.create_task(everything(process))
        await process.write(data)
        await process.close_stdin()
        assert await reading == data
        assert await process.wait() == 0


async def test_a_process_that_is_not_read_waits(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        process = await sandbox.spawn(["bash", "-c", "head -c 3000000 /dev/zero; echo end >&2"])
        assert await inside(sandbox, "echo quick") == "quick\n"
        first = await process.read()
        assert 0 < len(first) <= protocol.WINDOW
        rest = await everything(process)
        assert len(first) + len(rest) == 3_000_000
        assert await process.read_stderr() == b"end\n"


async def test_a_write_waits_until_the_process_takes_it(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(sandbox, "mkfifo go")
        process = await sandbox.spawn(["bash", "-c", "read x < go; cat | wc -c"])
        writing = asyncio.create_task(process.write(b"x" * 1_000_000))
        await inside(sandbox, "echo quick")
        assert not writing.done()
        await process.kill()
        with pytest.raises(BrokenPipeError):
            await writing
        assert await process.wait() == -9


async def test_kill_reaches_the_whole_group(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        script = f"sleep {unlike(81)} & sleep {unlike(81)} & echo up; wait"
        process = await sandbox.spawn(["bash", "-c", script])
        assert await process.read() == b"up\n"
        await process.kill(15)
        assert await process.wait() == -15
        assert all_killed("sleep", unlike(81))


async def test_a_terminal_has_a_size_and_echoes(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        process = await sandbox.spawn(["bash", "--norc"], pty=(30, 100), env={"PS1": "$ "})
        await process.write(b"stty size; tty; exit 7\n")
        seen = await everything(process)
        assert b"30 100" in seen
        assert b"/dev/pts/" in seen
        assert await process.wait() == 7


async def test_a_terminal_can_be_resized(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        script = "read x; stty size; exec cat"
        process = await sandbox.spawn(["bash", "-c", script], pty=(24, 80))
        await process.resize(50, 132)
        await process.write(b"\nword\n")
        seen = b""
        while seen.count(b"word") < 2 and (data := await process.read()):  # its echo, and cat's
            seen += data
        assert b"50 132" in seen
        await process.write(b"\x03")
        assert await process.wait() == -2


async def test_what_cannot_be_started_says_why(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        with pytest.raises(OSError, match="No such file"):
            await sandbox.spawn(["/no/such/program"])
        with pytest.raises(OSError, match="No such file"):
            await sandbox.spawn(["true"], cwd="/no/such/place")


async def test_the_environment_and_directory_are_as_asked(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        process = await sandbox.spawn(
            ["bash", "-c", "pwd; echo $MORE; echo $HOME"], cwd="/usr", env={"MORE": "yes"}
        )
        assert (await everything(process)).decode().split() == ["/usr", "yes", sandbox.home]


async def test_the_end_of_the_sandbox_ends_the_streams(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        process = await sandbox.spawn(["sleep", "83"])
        reading = asyncio.create_task(process.read())
        await asyncio.sleep(0)
        await sandbox.stop()
        for waiting in (reading, process.wait(), process.write(b"x")):
            with pytest.raises(SandboxLost):
                await waiting


async def test_what_was_taken_by_a_process_that_then_ended_was_written() -> None:
    process = StreamedProcess()
    process.attach(lambda _kind, _payload: None)
    writing = asyncio.ensure_future(process.write(b"\x03"))
    await asyncio.wait([writing], timeout=0)
    process.receive_frame(protocol.STDIN_WRITTEN, (1).to_bytes(4, "big"))
    process.receive_frame(protocol.STDIN_WRITTEN, protocol.STDIN_CLOSED.to_bytes(4, "big"))
    process.receive_frame(protocol.END, b"{}")
    await writing
    with pytest.raises(BrokenPipeError):
        await process.write(b"more")
