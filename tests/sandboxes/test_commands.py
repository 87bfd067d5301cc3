"""One shell command: its result, its limits, and its end."""

from __future__ import annotations

import asyncio
import time

import pytest

from loopat_jupyter.loops.errors import SandboxLost
from tests.sandboxes.conftest import LoopatHome, Started, all_killed, inside, living, unlike


async def test_output_and_exit_code_come_back(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        result = await sandbox.run("echo out; echo err >&2; exit 3", timeout=10)
        assert (result.exit_code, result.output, result.timed_out) == (3, "out\nerr\n", False)
        assert (await sandbox.run("kill -TERM $$", timeout=10)).exit_code == -15
        assert (await inside(sandbox, "pwd")).strip() == sandbox.workdir
        assert (await inside(sandbox, "echo $HOME")).strip() == sandbox.home


async def test_output_that_is_no_utf8_is_replaced(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        assert await inside(sandbox, "printf 'a\\xffb\\0c'") == "a\ufffdb\0c"
        assert (await sandbox.run("echo \udc80", timeout=5)).exit_code == 0
        assert (await sandbox.run("a\0b", timeout=5)).exit_code == 126


async def test_a_long_command_arrives_whole(any_tier: Started) -> None:
    text = "x" * 100_000
    async with any_tier() as sandbox:
        assert await inside(sandbox, f"read -r v <<'E'\n{text}\nE\necho ${{#v}}") == "100000\n"
        result = await sandbox.run("x" * 3_000_000, timeout=10)
        assert result.exit_code == 126
        assert "too long" in result.output


async def test_long_output_keeps_head_and_tail_and_a_file(
    any_tier: Started, loopat_home: LoopatHome
) -> None:
    loopat_home.limit(output=1000)
    async with any_tier() as sandbox:
        result = await sandbox.run("seq 10000", timeout=10)
        assert result.output.startswith("1\n2\n3\n")
        assert result.output.endswith("9999\n10000\n")
        assert result.output_file is not None
        assert f"bytes left out; the whole output is in {result.output_file}" in result.output
        assert (await inside(sandbox, f"wc -l < {result.output_file}")).strip() == "10000"
        short = await sandbox.run("seq 10", timeout=10)
        assert short.output_file is None


async def test_old_output_files_are_pruned(any_tier: Started, loopat_home: LoopatHome) -> None:
    loopat_home.limit(output=10)
    async with any_tier() as sandbox:
        await asyncio.gather(*(sandbox.run("seq 20", timeout=20) for _ in range(60)))
        last = await sandbox.run("seq 20", timeout=10)
        count = await inside(sandbox, "ls ~/.loopat/output | wc -l")
        assert int(count) <= 50
        assert await inside(sandbox, f"tail -1 {last.output_file}") == "20\n"


async def test_an_agent_that_breaks_the_output_directory_only_loses_the_file(
    any_tier: Started, loopat_home: LoopatHome
) -> None:
    loopat_home.limit(output=100)
    async with any_tier() as sandbox:
        result = await sandbox.run("touch ~/.loopat; seq 1000", timeout=10)
        assert result.output_file is None
        assert "bytes left out ...]" in result.output
        assert (await sandbox.run("seq 1000", timeout=10, background=True)).output_file is None
        assert await inside(sandbox, "echo fine") == "fine\n"


async def test_a_timeout_kills_the_process_group(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        result = await sandbox.run(f"echo begun; sleep {unlike(71)} | cat; echo after", timeout=0.3)
        assert (result.timed_out, result.exit_code, result.output) == (True, None, "begun\n")
        assert all_killed("sleep", unlike(71))


async def test_a_background_child_does_not_hold_the_command_up(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        began = time.monotonic()
        result = await sandbox.run(f"(sleep {unlike(72)}; echo late) & echo done", timeout=20)
        assert result.output == "done\n"
        assert time.monotonic() - began < 10
        while not living("sleep", unlike(72)):
            await inside(sandbox, "sleep 0.01")


async def test_a_background_child_may_go_on_printing(any_tier: Started) -> None:
    script = "(while :; do echo x; sleep 0.02; done) & echo $!"
    async with any_tier() as sandbox:
        pid = (await inside(sandbox, script)).replace("x", "").strip()
        assert await inside(sandbox, f"sleep 0.2; kill -0 {pid} && echo lives") == "lives\n"


async def test_a_background_command_writes_to_its_file(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        result = await sandbox.run("echo one; read x < fifo; echo two", timeout=1, background=True)
        assert result.exit_code is None
        assert result.background_pid is not None
        assert result.output_file is not None
        await inside(sandbox, f"until [ -s {result.output_file} ]; do sleep 0.01; done")
        assert await inside(sandbox, f"cat {result.output_file}") != ""


async def test_background_processes_and_files_outlive_the_command(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        pid = await inside(sandbox, "echo kept > file; sleep 73 >/dev/null 2>&1 & echo $!")
        assert await inside(sandbox, f"cat file; kill -0 {pid.strip()} && echo lives") == (
            "kept\nlives\n"
        )


async def test_cancelling_kills_the_command_and_nothing_else(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        pid = (await inside(sandbox, "sleep 74 >/dev/null & echo $!")).strip()
        running = asyncio.create_task(
            sandbox.run(f"touch begun; sleep {unlike(75)}; echo after", timeout=60)
        )
        await inside(sandbox, "until [ -e begun ]; do sleep 0.01; done")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        while living("sleep", unlike(75)):
            await inside(sandbox, "sleep 0.01")
        assert await inside(sandbox, f"kill -0 {pid} && echo there") == "there\n"


async def test_cancelling_at_once_is_as_good(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        running = asyncio.create_task(sandbox.run(f"sleep {unlike(76)}", timeout=60))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert all_killed("sleep", unlike(76))


async def test_commands_run_side_by_side(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        reader = asyncio.create_task(inside(sandbox, "mkfifo f && cat f"))
        await inside(sandbox, "until [ -p f ]; do sleep 0.01; done; echo through > f")
        assert await reader == "through\n"


async def test_commands_inherit_nothing_of_the_supervisor(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        code = "import os; print(*(n for n in range(64) if os.path.exists(f'/proc/self/fd/{n}')))"
        assert await inside(sandbox, f'python3 -c "{code}"') == "0 1 2\n"
        assert "JUPYTER" not in await inside(sandbox, "env")


async def test_a_stopped_sandbox_says_so(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        running = asyncio.create_task(sandbox.run("touch begun; sleep 77", timeout=60))
        await inside(sandbox, "until [ -e begun ]; do sleep 0.01; done")
        await sandbox.stop()
        with pytest.raises(SandboxLost):
            await running
        with pytest.raises(SandboxLost):
            await sandbox.run("true", timeout=1)
        assert not sandbox.alive
        await sandbox.wait_closed()
        await sandbox.stop()
