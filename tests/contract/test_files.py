"""Files across the wall: what the owner puts an agent finds, and the other way round.

Workdirs are written to here as an agent would write to them; the attacks are in
``test_files_attacked.py``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.caller import Caller, expect
from tests.support.mock_model import MockModel, Text, bash
from tests.support.server import JupyterServer

pytestmark = pytest.mark.slow(10)

People = Callable[[str], Caller]


async def put(caller: Caller, loop_id: str, path: str, data: bytes, **query: Any) -> httpx.Response:
    return await caller.request("PUT", f"/loops/{loop_id}/files/{path}", content=data, params=query)


async def get(caller: Caller, loop_id: str, path: str) -> httpx.Response:
    return await caller.get(f"/loops/{loop_id}/files/{path}")


async def listing(caller: Caller, loop_id: str, path: str = "", **query: Any) -> dict[str, Any]:
    answer = await caller.get(f"/loops/{loop_id}/files", params={"path": path, **query})
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def names(caller: Caller, loop_id: str, path: str = "") -> list[tuple[str, str]]:
    return [(row["type"], row["name"]) for row in (await listing(caller, loop_id, path))["data"]]


async def run(caller: Caller, model: MockModel, loop_id: str, command: str) -> str:
    """What a Bash call of the agent put out."""
    script = model.script([bash(command)], [Text("ok")])
    events = await caller.turn(loop_id, script.message(), mode="bypassPermissions")
    assert events[-1].name == "done", events[-1]
    return script.requests[1].tool_results()[-1]


# --------------------------------------------------------------------------- there and back


async def test_what_is_put_comes_back_before_any_sandbox_ran(session: Caller) -> None:
    loop_id = await session.loop()
    assert (await listing(session, loop_id)) == {
        "path": "", "data": [], "has_more": False, "last_id": None, "truncated": False,
    }  # fmt: skip
    data = secrets.token_bytes(300_000)
    answer = await put(session, loop_id, "in/deep/data.bin", data)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["received"], body["size"], body["complete"]) == (300_000, 300_000, True)
    assert body["path"] == body["file"]["path"] == "in/deep/data.bin"
    assert (await get(session, loop_id, "in/deep/data.bin")).content == data
    assert await names(session, loop_id) == [("directory", "in")]
    (row,) = (await listing(session, loop_id, "in/deep"))["data"]
    assert row == body["file"]
    assert (row["name"], row["type"], row["size"]) == ("data.bin", "file", 300_000)


async def test_the_agent_can_read_change_and_remove_what_was_put(
    session: Caller, model: MockModel
) -> None:
    loop_id = await session.loop()
    await put(session, loop_id, "before/a.txt", b"put before\n")
    assert "put before" in await run(session, model, loop_id, "cat before/a.txt && touch before/b")
    await put(session, loop_id, "after/one/b.txt", b"put while it runs\n")
    await put(session, loop_id, "before/c.txt", b"beside the agent's\n")
    shown = await run(
        session, model, loop_id,
        "cat after/one/b.txt before/c.txt && echo more >> after/one/b.txt && rm before/c.txt"
        " && mkdir after/two && rm before/a.txt && echo fine",
    )  # fmt: skip
    assert "put while it runs" in shown
    assert "fine" in shown
    assert (await get(session, loop_id, "after/one/b.txt")).text == "put while it runs\nmore\n"
    expect(await get(session, loop_id, "before/a.txt"), 404, "not_found")


async def test_what_the_agent_made_is_listed_and_read(session: Caller, model: MockModel) -> None:
    loop_id = await session.loop()
    await run(session, model, loop_id, "mkdir out && seq 3 > out/n.txt && ln -s n.txt out/link")
    assert await names(session, loop_id, "out") == [("symlink", "link"), ("file", "n.txt")]
    answer = await get(session, loop_id, "out/n.txt")
    assert answer.text == "1\n2\n3\n"


async def test_a_file_is_replaced_as_a_whole_and_keeps_its_permissions(
    session: Caller, model: MockModel
) -> None:
    loop_id = await session.loop()
    await run(session, model, loop_id, "echo 'echo old' > run.sh; chmod 755 run.sh; ln run.sh was")
    await put(session, loop_id, "run.sh", b"#!/bin/sh\necho new\n")
    assert "new" in await run(session, model, loop_id, "./run.sh")
    assert (await get(session, loop_id, "was")).text == "echo old\n"
    assert (await put(session, loop_id, "empty", b"")).json()["complete"]
    assert (await get(session, loop_id, "empty")).content == b""


# --------------------------------------------------------------------------- how it is sent


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("page.html", "page.html"),
        ("a b\"c;'.svg", "a_b_c__.svg"),
        ("‮gpj.exe", "_gpj.exe"),
        ("ünïcode 🐍.txt", "_n_code__.txt"),
    ],
)
async def test_no_browser_shows_what_an_agent_made(session: Caller, name: str, plain: str) -> None:
    loop_id = await session.loop()
    server = session.server
    (server.workdir(loop_id) / name).write_text("<script>alert(1)</script>")
    answer = await get(session, loop_id, httpx.URL(path=f"/{name}").raw_path.decode()[1:])
    assert answer.text == "<script>alert(1)</script>"
    headers = answer.headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].split(";")[0] == "sandbox"
    assert headers["Content-Disposition"].startswith(f'attachment; filename="{plain}"; filename*=')
    assert headers["Content-Disposition"].isascii()
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_slashes_may_be_sent_as_they_are_or_encoded(session: Caller) -> None:
    loop_id = await session.loop()
    await put(session, loop_id, "a%2Fb%2Fc", b"1")
    assert (await get(session, loop_id, "a/b/c")).content == b"1"
    assert (await get(session, loop_id, "a%2Fb/c")).content == b"1"


# --------------------------------------------------------------------------- pages


async def test_a_directory_comes_in_pages_in_the_order_of_its_names(session: Caller) -> None:
    loop_id = await session.loop()
    workdir = session.server.workdir(loop_id)
    made = sorted([f"f{n:03}" for n in range(250)] + ["É", "a b%/".strip("/"), "\n"])
    for name in made:
        (workdir / name).touch()
    found: list[str] = []
    query: dict[str, Any] = {"limit": 100}
    while True:
        page = await listing(session, loop_id, **query)
        found += [row["name"] for row in page["data"]]
        assert not page["truncated"]
        if not page["has_more"]:
            break
        assert len(page["data"]) == 100
        query["after"] = page["last_id"]
    assert found == sorted(made, key=str.encode)
    for after in ("", "a/b", "%", "%zz", "x" * 256, "a%2fb"):
        answer = await session.get(f"/loops/{loop_id}/files", params={"after": after})
        expect(answer, 400, "invalid_cursor")
    expect(await session.get(f"/loops/{loop_id}/files?limit=101"), 400, "invalid_parameter")


# --------------------------------------------------------------------------- who may, and when


async def test_files_are_their_owners_alone(
    person: People, somebody: str, nobody: Caller, api: Caller
) -> None:
    loop_id = await person(somebody).loop()
    await put(person(somebody), loop_id, "a", b"mine")
    for caller, status, code in (
        (person("mallory"), 403, "not_loop_owner"),
        (nobody, 401, "missing_credentials"),
    ):
        expect(await get(caller, loop_id, "a"), status, code)
        expect(await put(caller, loop_id, "a", b"x"), status, code)
        expect(await caller.get(f"/loops/{loop_id}/files"), status, code)
    assert (await get(person(somebody), loop_id, "a")).content == b"mine"
    own = await api.loop()
    assert (await put(api, own, "a", b"by a token")).status_code == 200
    assert (await get(api, own, "a")).content == b"by a token"


async def test_an_archived_loop_s_files_are_read_and_not_written(session: Caller) -> None:
    loop_id = await session.loop()
    await put(session, loop_id, "a", b"kept")
    await put(session, loop_id, "b", b"x", upload="u", offset=0, size=2)
    await session.delete(f"/loops/{loop_id}")
    assert (await get(session, loop_id, "a")).content == b"kept"
    assert await names(session, loop_id) == [("file", "a")]
    expect(await put(session, loop_id, "a", b"no"), 400, "loop_archived")
    expect(await put(session, loop_id, "..%2Fx", b"x" * (9 << 20)), 400, "loop_archived")
    assert list((session.server.workdir(loop_id).parent / "uploads").iterdir()) == []


async def test_a_folder_of_the_server_is_named_and_not_entered(
    session: Caller, server: JupyterServer, model: MockModel
) -> None:
    (server.root / "given" / "data").mkdir(parents=True, exist_ok=True)
    (server.root / "given" / "data" / "in.txt").write_text("there")
    loop_id = await session.loop(folders=[{"path": "given/data"}])
    for _ in range(2):  # before a sandbox was there, and after
        assert await names(session, loop_id) == [("folder", "data")]
        for answer in (
            await get(session, loop_id, "data/in.txt"),
            await put(session, loop_id, "data/new.txt", b"x"),
            await put(session, loop_id, "data", b"x"),
            await session.get(f"/loops/{loop_id}/files?path=data"),
        ):
            message = expect(answer, 400, "invalid_parameter")["message"]
            assert "'given/data' of the Jupyter server" in message
        assert "there" in await run(session, model, loop_id, "cat data/in.txt")


# --------------------------------------------------------------------------- sizes and parts


async def test_a_large_file_comes_in_parts_and_appears_with_the_last(session: Caller) -> None:
    loop_id = await session.loop()
    data = secrets.token_bytes(19 << 20)
    await put(session, loop_id, "big.bin", b"the old one")
    expect(await put(session, loop_id, "big.bin", data), 413, "body_too_large")
    step = 8 << 20
    for offset in range(0, len(data), step):
        assert (await get(session, loop_id, "big.bin")).content == b"the old one"
        assert await names(session, loop_id) == [("file", "big.bin")]
        piece = data[offset : offset + step]
        query = {"upload": "one", "offset": offset, "size": len(data)}
        answer = await put(session, loop_id, "big.bin", piece, **query)
        assert answer.json()["received"] == offset + len(piece)
        assert answer.json()["complete"] == (answer.json()["file"] is not None)
    assert answer.json()["complete"]
    got = await get(session, loop_id, "big.bin")
    assert got.content == data
    assert got.headers["Content-Length"] == str(len(data))


async def test_a_part_may_come_again_and_two_uploads_do_not_mix(session: Caller) -> None:
    loop_id = await session.loop()

    async def part(upload: str, offset: int, data: bytes) -> dict[str, Any]:
        answer = await put(session, loop_id, "f", data, upload=upload, offset=offset, size=6)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    await part("a", 0, b"aa")
    await part("b", 0, b"bb")
    assert (await part("a", 2, b"xxx"))["received"] == 5
    assert (await part("a", 2, b"aa"))["received"] == 4
    assert (await part("a", 4, b"aa"))["complete"]
    assert (await get(session, loop_id, "f")).content == b"aaaaaa"
    assert (await part("b", 2, b"bbbb"))["complete"]
    assert (await get(session, loop_id, "f")).content == b"bbbbbb"
    late = await put(session, loop_id, "f", b"aa", upload="a", offset=4, size=6)
    assert "0 of 6" in expect(late, 400, "invalid_parameter")["message"]


@pytest.mark.parametrize(
    "query",
    [
        {"upload": "u"},
        {"offset": 0, "size": 5},
        {"upload": "u", "offset": 0, "size": 4},
        {"upload": "u", "offset": 3, "size": 9},
        {"upload": "u", "offset": -1, "size": 5},
        {"upload": "u", "offset": "x", "size": 5},
        {"upload": "../u", "offset": 0, "size": 5},
        {"upload": "", "offset": 0, "size": 5},
    ],
)
async def test_a_part_that_cannot_be_is_refused(session: Caller, query: dict[str, Any]) -> None:
    loop_id = await session.loop()
    expect(await put(session, loop_id, "f", b"12345", **query), 400, "invalid_parameter")
    assert await names(session, loop_id) == []


async def test_a_file_over_the_limit_goes_neither_in_nor_out(
    new_server: Callable[..., JupyterServer], recorder: Any
) -> None:
    server = new_server(options=["--LoopatExtension.max_file_size=2000"]).start()
    async with Caller(server, recorder, headers=server.session) as caller:
        loop_id = await caller.loop()
        assert (await put(caller, loop_id, "a", b"x" * 2000)).status_code == 200
        expect(await put(caller, loop_id, "a", b"x" * 2001), 413, "body_too_large")
        query = {"upload": "u", "offset": 0, "size": 2001}
        expect(await put(caller, loop_id, "a", b"x", **query), 413, "body_too_large")
        assert len((await get(caller, loop_id, "a")).content) == 2000
        with (server.workdir(loop_id) / "sparse").open("wb") as file:
            file.truncate(1 << 40)
        message = expect(await get(caller, loop_id, "sparse"), 400, "content_too_large")["message"]
        assert "1099511627776" in message
