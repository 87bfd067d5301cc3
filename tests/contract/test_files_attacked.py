"""Hostile hands on the same addresses: raw request lines, and an agent that changes files."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
from pathlib import Path

import httpx
import pytest

from tests.support.caller import Caller, expect
from tests.support.mock_model import MockModel, Text, bash
from tests.support.server import JupyterServer

SPELLINGS = [
    "../../../config.json",
    "../../../../config.json",
    "..%2f..%2f..%2fconfig.json",
    "%2e%2e/%2e%2e/%2e%2e/config.json",
    "%2E%2E%2F%2E%2E%2F%2E%2E%2Fconfig.json",
    "%252e%252e%252f%252e%252e%252fconfig.json",
    "..%5c..%5cconfig.json",
    "....//....//config.json",
    "..;/..;/config.json",
    "%c0%ae%c0%ae/config.json",
    "%ff%fe",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "a/../../../../config.json",
    "a%00.txt",
    "%00",
    "..",
    ".",
    "%2e",
    "%2e%2e",
    "a/",
    "a//b",
    "a%0d%0aSet-Cookie:x",
    "x" * 300,
    "x/" * 2100 + "x",
    "%F0%9F%92%A9" * 100,
    "uploads/x/..%2f..",
    "CON",
]


def raw(server: JupyterServer, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    """One request whose line is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection._validate_path = lambda url: None  # type: ignore[attr-defined]
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in server.session.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def everything(home: Path) -> dict[str, int]:
    """What lies in the home, but for the workdirs, the database, and what runs."""
    return {
        str(path.relative_to(home)): path.lstat().st_size
        for path in home.rglob("*")
        if "workdir" not in path.parts and "uploads" not in path.parts and path.is_file()
        and not path.name.startswith("loopat.db") and "run" not in path.relative_to(home).parts
    }  # fmt: skip


async def test_no_spelling_of_a_path_leads_out(session: Caller, server: JupyterServer) -> None:
    loop_id = await session.loop()
    prefix = f"/a%40b/loopat/api/v1/loops/{loop_id}/files"
    before = everything(server.home)
    secret = (server.home / "config.json").read_bytes()
    for spelling in SPELLINGS:
        for method, target in (
            ("GET", f"{prefix}/{spelling}"),
            ("PUT", f"{prefix}/{spelling}"),
            ("GET", f"{prefix}?path={spelling}"),
        ):
            status, body = await asyncio.to_thread(raw, server, method, target, b"attack")
            where = (method, spelling[:60], status, body[:200])
            if status == 200:
                assert method == "PUT", where
                assert json.loads(body)["complete"], where
            else:
                assert status in (400, 404), where
                assert set(json.loads(body)["error"]) == {"type", "code", "message"}, where
                assert str(server.home).encode() not in body, where
            assert secret not in body, where
    assert everything(server.home) == before
    assert not list(server.root.rglob("x*"))
    made = sorted(p.name for p in server.workdir(loop_id).rglob("*"))
    assert all(p.resolve().is_relative_to(server.workdir(loop_id).resolve())
               for p in server.workdir(loop_id).rglob("*")), made  # fmt: skip


async def test_an_agent_s_links_pipes_and_odd_names_hold_nobody_up(
    session: Caller, model: MockModel, server: JupyterServer
) -> None:
    loop_id = await session.loop()
    command = (
        "ln -s /etc/passwd passwd; ln -s / root; ln -s ../../../config.json config; mkfifo pipe;"
        " ln -s self self; touch -- $'line\\nbreak' $'\\xe2\\x80\\xaegpj.exe' $'\\xff\\xfe' '-rf';"
        " ln -s . here; mkdir d; truncate -s 1T huge 2>/dev/null; true"
    )
    script = model.script([bash(command)], [Text("ok")])
    await session.turn(loop_id, script.message(), mode="bypassPermissions")
    answer = await session.get(f"/loops/{loop_id}/files", params={"limit": 100})
    rows = {row["name"]: row for row in answer.json()["data"]}
    assert rows["passwd"]["type"] == rows["root"]["type"] == "symlink"
    assert rows["pipe"]["type"] == "other"
    assert rows["\ufffd\ufffd"]["path"] is None
    async with asyncio.timeout(20):
        for path in ("passwd", "root/etc/passwd", "config", "pipe", "self", "here/-rf", "d"):
            got = await session.get(f"/loops/{loop_id}/files/{path}")
            expect(got, 400, "invalid_parameter")
            put = await session.request("PUT", f"/loops/{loop_id}/files/{path}", content=b"x")
            expect(put, 400, "invalid_parameter")
        for path in ("line%0Abreak", "%E2%80%AEgpj.exe", "-rf"):
            got = await session.get(f"/loops/{loop_id}/files/{path}")
            assert (got.status_code, got.content) == (200, b"")
            assert got.headers["Content-Disposition"].isprintable()


async def test_a_file_that_shrinks_while_it_is_sent_cuts_the_connection(
    session: Caller, server: JupyterServer
) -> None:
    loop_id = await session.loop()
    path = server.workdir(loop_id) / "f"
    size = 64 << 20  # more than the sockets' buffers and the kernel's window take
    with path.open("wb") as file:
        file.truncate(size)
    got = 0

    async def read() -> None:
        nonlocal got
        url = session.url(f"/loops/{loop_id}/files/f")
        async with session.http.stream("GET", url) as answer:
            assert int(answer.headers["Content-Length"]) == size
            async for chunk in answer.aiter_raw():
                if not got:
                    os.truncate(path, 0)
                got += len(chunk)

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    assert 0 < got < size
    assert (await session.get(f"/loops/{loop_id}/files/f")).content == b""


async def test_a_client_that_hangs_up_leaves_no_open_file(
    session: Caller, server: JupyterServer
) -> None:
    loop_id = await session.loop()
    path = server.workdir(loop_id) / "f"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    async with session.http.stream("GET", session.url(f"/loops/{loop_id}/files/f")) as answer:
        await anext(answer.aiter_raw(1024))
    fds = Path(f"/proc/{server.pid}/fd")

    def held() -> list[str]:
        found = []
        for fd in fds.iterdir():
            try:
                found.append(str(fd.readlink()))
            except FileNotFoundError:
                continue
        return [link for link in found if loop_id in link]

    for _ in range(100):
        if not held():
            break
        await session.get(f"/loops/{loop_id}")  # something for the server to notice
        await asyncio.sleep(0.05)
    assert held() == []
