"""A home that cannot be used harms this extension alone: in use, corrupt, too new, or full."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.caller import Caller, Recorder, expect
from tests.support.mock_model import MockModel, Text
from tests.support.server import JupyterServer

pytestmark = pytest.mark.slow(30)

Servers = Callable[..., JupyterServer]


def answers(server: JupyterServer, path: str) -> int:
    return httpx.get(f"{server.url}{path}", headers=server.session, timeout=30).status_code


def test_a_second_server_on_a_home_refuses_with_the_pid_of_the_first(new_server: Servers) -> None:
    first = new_server("first").start()
    second = new_server("second", home=first.home).start()
    line = second.wait_log("in use by")
    assert str(first.pid) in line
    assert str(first.home) in line
    assert answers(second, "api/status") == 200
    assert answers(second, "loopat/api/v1/loops") == 404
    assert answers(first, "loopat/api/v1/loops") == 200
    first.kill()
    second.restart()
    assert answers(second, "loopat/api/v1/loops") == 200


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose database holds a loop; its server has stopped."""
    with JupyterServer(tmp_path_factory.mktemp("used")) as server:
        answer = httpx.post(
            f"{server.api_url}/loops", headers=server.session, json={"title": "kept"}, timeout=30
        )
        assert answer.status_code == 201
    return server.home


@pytest.fixture
def used_home(used: Path, new_server: Servers) -> JupyterServer:
    """A server (not started) on a copy of that home."""
    server = new_server()
    shutil.copytree(used, server.home, dirs_exist_ok=True)
    return server


def refuses(server: JupyterServer, pattern: str) -> None:
    """The extension stays away with a line that matches; the file and Jupyter are unharmed."""
    database = server.home / "loopat.db"
    before = database.read_bytes()
    server.start()
    line = server.wait_log("loopat is not available")
    assert pattern in line, line
    assert "loopat.db" in line, line
    assert answers(server, "api/status") == 200
    assert answers(server, "loopat/api/v1/loops") == 404
    server.stop()
    assert database.read_bytes() == before


@pytest.mark.parametrize("damage", ["garbage", "truncated", "page"])
def test_a_corrupt_database_is_refused_and_left_alone(
    used_home: JupyterServer, damage: str
) -> None:
    database = used_home.home / "loopat.db"
    content = database.read_bytes()
    for extra in used_home.home.glob("loopat.db-*"):
        extra.unlink()
    if damage == "garbage":
        database.write_bytes(b"this is no database\n" * 200)
    elif damage == "truncated":
        database.write_bytes(content[: len(content) // 2])
    else:
        database.write_bytes(content[:4096] + os.urandom(4096) + content[8192:])
    refuses(used_home, "corrupt")


def test_a_newer_database_is_refused_and_left_alone(used_home: JupyterServer) -> None:
    connection = sqlite3.connect(used_home.home / "loopat.db")
    connection.execute("PRAGMA user_version = 9999")
    connection.commit()
    connection.close()
    refuses(used_home, "newer")


def test_a_home_that_cannot_be_made_is_refused(new_server: Servers, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    server = new_server(options=[f"--LoopatExtension.home={tmp_path}/file/home"]).start()
    assert answers(server, "api/status") == 200
    assert answers(server, "loopat/api/v1/loops") == 404


# --------------------------------------------------------------------------- disk full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0755", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"a small file system cannot be mounted here (not root?): {error}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_full_disk_fails_the_request_and_keeps_what_was_acknowledged(
    new_server: Servers, small_disk: Path, model: MockModel
) -> None:
    server = new_server(home=small_disk / "loopat").start()
    recorder = Recorder()
    async with Caller(server, recorder, headers=server.session) as api:
        loop_id = await api.loop(title="before")
        before = await api.turn(loop_id, model.script([Text("kept")]).message())
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(b"x" * 65536)
                    file.flush()
            except OSError:
                pass
        accepted: list[str] = []
        refused = 0
        for n in range(40):
            body = {"content": f"{n} " + "x" * 500_000}
            async with api.http.stream(
                "POST", api.url(f"/loops/{loop_id}/messages"), json=body
            ) as answer:
                await answer.aread()
            if answer.status_code == 200:
                accepted.append(body["content"])
            else:
                expect(answer, 500, "internal")
                refused += 1
            if refused == 3:
                break
        assert refused == 3, "the disk was never full"
        expect(await api.post("/loops", json={"metadata": {"k": "x" * 16000}}), 500, "internal")
        assert (await api.state(loop_id))["title"] == "before"
        filler.unlink()
        async with api.watch(loop_id, after_seq=0) as replay:
            assert [await replay.event() for _ in before] == before
        assert (await api.turn(loop_id, "there is room again"))[-1].name == "done"
        server.restart()
    async with Caller(server, recorder, headers=server.session) as api:
        rows = await api.history(loop_id)
        users = [row["content"] for row in rows if row["role"] == "user"]
        assert users[0].startswith("please")
        assert users[1:-1] == accepted
        assert users[-1] == "there is room again"
        assert (await api.log(loop_id))[: len(before)] == before
        assert (await api.state(loop_id))["busy"] is False
