"""What is put belongs to the agent, and what the agent made can be got, in every tier."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from loopat_jupyter.loops.errors import InvalidParameter, PermissionRefused
from loopat_jupyter.loops.models import LoopRecord, SharedFolder, now
from loopat_jupyter.loops.ports.files import UploadPart
from loopat_jupyter.loops.ports.sandbox import FolderMount
from loopat_jupyter.workspace.files import WorkspaceFiles
from tests.sandboxes.conftest import LoopatHome, Started, inside

OWNER = 64999 if os.geteuid() == 0 else None
"""Whom the sandboxes of a server that is root run as."""


@pytest.fixture
def files(loopat_home: LoopatHome) -> Iterator[WorkspaceFiles]:
    places = WorkspaceFiles(
        lambda loop_id: loopat_home.home / "loops" / loop_id, max_size=1 << 20, owner=OWNER
    )
    yield places
    places.close()


def loop_of(loop_id: str) -> LoopRecord:
    return LoopRecord(loop_id, "ada", "t", now(), {}, (), "default", None)


async def put(files: WorkspaceFiles, loop: LoopRecord, path: str, data: bytes) -> None:
    got = await files.put(loop, path, data, None)
    assert got.file is not None


async def get(files: WorkspaceFiles, loop: LoopRecord, path: str) -> bytes:
    async with files.open(loop, path) as file:
        return b"".join([chunk async for chunk in file.chunks()])


async def test_both_sides_read_change_and_remove_the_same_files(
    loopat_home: LoopatHome, any_tier: Started, files: WorkspaceFiles
) -> None:
    spec = loopat_home.spec()
    loop = loop_of(spec.loop_id)
    await put(files, loop, "early/one/a.txt", b"before it started\n")
    async with any_tier(spec) as sandbox:
        said = await inside(
            sandbox,
            "cat early/one/a.txt && echo more >> early/one/a.txt && mkdir early/two && mkdir own"
            " && echo made > own/x && chmod 700 own && chmod 600 own/x && ln -s x own/link",
        )
        assert "before it started" in said
        await put(files, loop, "early/one/b.txt", b"while it runs\n")
        await put(files, loop, "own/y/z/c.txt", b"in the agent's folder\n")
        part = UploadPart("u", 0, 4)
        assert (await files.put(loop, "own/p", b"12", part)).file is None
        assert (await files.put(loop, "own/p", b"34", replace(part, offset=2))).file is not None
        await put(files, loop, "own/x", b"replaced\n")
        said = await inside(
            sandbox,
            "cat early/one/b.txt own/y/z/c.txt own/p own/x && echo >> own/y/z/c.txt"
            " && echo >> own/p && rm -r early/one own/y && stat -c %a own/x && echo all fine",
        )
        assert said.endswith("600\nall fine\n"), said
        assert await get(files, loop, "own/x") == b"replaced\n"
        page = await files.list(loop, "own", limit=100, after=None)
        assert [(e.type, e.name) for e in page.entries] == [
            ("symlink", "link"), ("file", "p"), ("file", "x"),
        ]  # fmt: skip
        with pytest.raises(InvalidParameter, match="no regular file"):
            await get(files, loop, "own/link")
        seen = await inside(sandbox, "ls -a . .. ~ 2>&1; true")
        assert "uploads" not in seen or not sandbox.isolation.isolates
    assert await get(files, loop, "own/x") == b"replaced\n"
    assert list((spec.workdir.parent / "uploads").iterdir()) == []


async def test_a_folder_is_named_and_its_files_are_not_reached(
    loopat_home: LoopatHome, any_tier: Started, files: WorkspaceFiles
) -> None:
    source = loopat_home.top / "root" / "data"
    source.mkdir(parents=True)
    (source / "in.txt").write_text("there\n")
    loopat_home.folders = (FolderMount(source, "data", False),)
    spec = loopat_home.spec()
    loop = replace(loop_of(spec.loop_id), folders=(SharedFolder("data", False),))

    async def look() -> None:
        page = await files.list(loop, "", limit=100, after=None)
        assert [(e.type, e.name) for e in page.entries] == [("folder", "data")]
        for path in ("data", "data/in.txt"):
            with pytest.raises(InvalidParameter, match="Jupyter"):
                await get(files, loop, path)
            with pytest.raises(InvalidParameter, match="Jupyter"):
                await put(files, loop, path, b"x")
        with pytest.raises(InvalidParameter, match="Jupyter"):
            await files.list(loop, "data", limit=1, after=None)

    await look()
    async with any_tier(spec):
        await look()
    await look()
    assert (source / "in.txt").read_text() == "there\n"


async def test_what_the_agent_shut_is_shut_or_read_but_never_hangs(
    loopat_home: LoopatHome, any_tier: Started, files: WorkspaceFiles
) -> None:
    spec = loopat_home.spec()
    loop = loop_of(spec.loop_id)
    async with any_tier(spec) as sandbox:
        await inside(sandbox, "mkdir shut; echo x > shut/a; echo y > b; chmod 0 shut b; mkfifo p")
        for path in ("shut/a", "b"):
            if os.geteuid() == 0:
                assert len(await get(files, loop, path)) == 2
                continue
            with pytest.raises(PermissionRefused, match="chmod"):
                await get(files, loop, path)
        with pytest.raises(InvalidParameter, match="no regular file"):
            await get(files, loop, "p")
        with pytest.raises(InvalidParameter, match="symlink, pipe or device"):
            await put(files, loop, "p", b"x")
