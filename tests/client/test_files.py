"""Files and transcripts with the clients, against a real server."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import nbformat
import pytest

from loopat_jupyter import client as api
from loopat_jupyter.client import AsyncClient, Client, Loop, RetryPolicy
from tests.support.server import JupyterServer

from .scripted_api import LOOP, LOOP_BODY

MIB = 1 << 20


@pytest.fixture
def loop(client: Client) -> Loop:
    return client.loops.create("files")


def test_bytes_and_files_are_uploaded_and_downloaded(loop: Loop, tmp_path: Path):
    made = loop.put(b"a,b\n1,2\n", "data/table.csv")
    assert (made.name, made.path, made.type, made.size) == (
        "table.csv", "data/table.csv", "file", 8,
    )  # fmt: skip
    assert made.modified is not None
    (tmp_path / "notes.txt").write_text("notes")
    assert loop.put(tmp_path / "notes.txt").path == "notes.txt"
    assert loop.put(str(tmp_path / "notes.txt"), "ünï/a b%2F#?.txt").size == 5
    assert [(f.type, f.name) for f in loop.files()] == [
        ("directory", "data"), ("file", "notes.txt"), ("directory", "ünï"),
    ]  # fmt: skip
    assert loop.files("data") == [made]
    assert loop.get("data/table.csv") == b"a,b\n1,2\n"
    assert loop.get("ünï/a b%2F#?.txt") == b"notes"
    target = loop.get("data/table.csv", tmp_path)
    assert target == tmp_path / "table.csv"
    assert target.read_bytes() == b"a,b\n1,2\n"
    other = loop.get("notes.txt", tmp_path / "other.txt")
    assert other.read_text() == "notes"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "other.txt", "table.csv"]


def test_the_agent_and_its_owner_see_the_same_files(loop: Loop):
    loop.put(b"7 * 6\n", "sum.txt")
    assert "42" in loop.ask("!echo $(($(cat sum.txt))) | tee out.txt").text
    assert loop.get("out.txt") == b"42\n"


def test_a_large_file_is_uploaded_in_parts_from_disk_and_from_memory(loop: Loop, tmp_path: Path):
    data = secrets.token_bytes(17 * MIB + 3)
    source = tmp_path / "big.bin"
    source.write_bytes(data)
    assert loop.put(source).size == len(data)
    assert loop.get("big.bin") == data
    assert loop.put(data, "again.bin").size == len(data)
    assert loop.get("again.bin", tmp_path / "back.bin").read_bytes() == data


def test_all_of_a_long_directory_is_listed(loop: Loop, demo_server: JupyterServer):
    for n in range(230):
        (demo_server.workdir(loop.id) / f"f{n:03}").touch()
    assert [f.name for f in loop.files()] == [f"f{n:03}" for n in range(230)]


@pytest.mark.parametrize("name", ["", "/a", "a/", "..", "a/../b", ".", "a//b"])
def test_a_name_that_is_no_path_in_a_workdir_is_rejected_locally(
    loop: Loop, name: str, tmp_path: Path
):
    for call in (
        lambda: loop.put(b"x", name),
        lambda: loop.get(name),
        lambda: loop.get(name, tmp_path),
    ):
        with pytest.raises(ValueError, match="not a path"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_errors_of_unreadable_files_name_the_file(loop: Loop, tmp_path: Path):
    with pytest.raises(ValueError, match="name="):
        loop.put(b"x")
    os.mkfifo(tmp_path / "pipe")
    for local in (tmp_path / "none", tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match=r"no regular file|No such file"):
            loop.put(local)
    for wanted in (None, tmp_path):
        with pytest.raises(api.NotFoundError) as error:
            loop.get("none.txt", wanted)  # type: ignore[call-overload]
        assert error.value.code == "not_found"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pipe"]
    loop.archive()
    with pytest.raises(api.InvalidRequestError) as refused:
        loop.put(b"x", "a")
    assert refused.value.code == "loop_archived"


def test_a_transcript_in_every_format(loop: Loop, tmp_path: Path):
    turn = loop.ask("!echo hello").turn_id
    loop.ask("count 3")
    text = loop.transcript()
    assert text.startswith("# files\n")
    assert "```text\nhello\n```" in text
    transcript = loop.transcript("json", last=1)
    assert [t["message"] for t in transcript["turns"]] == ["count 3"]
    assert loop.transcript("json", turn=turn)["turns"][0]["turn_id"] == turn
    path = loop.to_notebook(tmp_path)
    assert path == tmp_path / f"{loop.id}.ipynb"
    made = nbformat.read(path, as_version=4)
    nbformat.validate(made)
    assert [c.source for c in made.cells if c.cell_type == "code"] == ["%%bash\necho hello"]
    assert nbformat.reads(json.dumps(loop.transcript("ipynb")), as_version=4) == made
    assert loop.to_notebook(tmp_path / "own.ipynb", last=1).exists()
    with pytest.raises(api.NotFoundError):
        loop.transcript(turn="turn_unknown")


async def test_the_asynchronous_client_does_the_same(demo_server: JupyterServer, tmp_path: Path):
    async with AsyncClient(demo_server.url, demo_server.token) as client:
        loop = await client.loops.create("async")
        source = tmp_path / "big.bin"
        source.write_bytes(secrets.token_bytes(9 * MIB))
        await loop.put(source)
        await loop.put(b"x", "a.txt")
        await loop.put(source.read_bytes(), "memory.bin")
        assert [f.name for f in await loop.files()] == ["a.txt", "big.bin", "memory.bin"]
        assert await loop.get("a.txt") == b"x"
        back = await loop.get("big.bin", tmp_path / "back.bin")
        assert back.read_bytes() == source.read_bytes() == await loop.get("memory.bin")
        await loop.ask("!echo hi")
        assert "hi" in await loop.transcript()
        assert (await loop.transcript("json"))["turns"]
        nbformat.validate(nbformat.read(await loop.to_notebook(tmp_path), as_version=4))


# --------------------------------------------------------------------------- broken connections


class Breaking(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that ends before its end."""

    def __init__(self, data: bytes, is_cut: bool) -> None:
        self._data = data
        self._is_cut = is_cut

    def __iter__(self) -> Iterator[bytes]:
        yield self._data[:3]
        if self._is_cut:
            raise httpx.RemoteProtocolError("cut")
        yield self._data[3:]

    async def __aiter__(self):
        for piece in self:
            yield piece


def test_a_broken_download_is_retried_and_leaves_no_partial_file(tmp_path: Path):
    cuts = [True, False, True, True, True, True]

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(LOOP):
            return httpx.Response(200, json=LOOP_BODY)
        return httpx.Response(200, stream=Breaking(b"content", cuts.pop(0)))

    transport = httpx.MockTransport(handle)
    retry = RetryPolicy(backoff=0.0)
    with Client("https://hub.example", "la_x", transport=transport, retry=retry) as client:
        loop = client.loops.get(LOOP)
        assert loop.get("a", tmp_path / "a").read_bytes() == b"content"
        with pytest.raises(api.ConnectionFailed):
            loop.get("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"content"
    assert len(list(tmp_path.iterdir())) == 1

    async def also() -> None:
        cuts[:] = [True, False]
        async with AsyncClient(
            "https://hub.example", "la_x", transport=transport, retry=retry
        ) as client:
            loop = await client.loops.get(LOOP)
            assert (await loop.get("a", tmp_path / "b")).read_bytes() == b"content"

    asyncio.run(also())


def test_a_part_is_retried_and_the_last_one_is_not():
    sent: list[tuple[str, str]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=LOOP_BODY)
        offset = request.url.params["offset"]
        sent.append((request.url.params["upload"], offset))
        if len(sent) in (1, 3):
            raise httpx.ReadError("no answer came")
        return httpx.Response(
            200, json={"path": "a", "received": 1, "size": 1, "complete": False, "file": None}
        )

    transport = httpx.MockTransport(handle)
    retry = RetryPolicy(backoff=0.0)
    with Client("https://hub.example", "la_x", transport=transport, retry=retry) as client:
        loop = client.loops.get(LOOP)
        with pytest.raises(api.ConnectionFailed):
            loop.put(bytes(8 * MIB + 1), "a")
    assert [offset for _, offset in sent] == ["0", "0", str(8 * MIB)]
    assert len({upload for upload, _ in sent}) == 1
