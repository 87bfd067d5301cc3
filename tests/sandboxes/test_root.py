"""What is particular to a server that is root: owners."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from loopat_jupyter.loops.ports.sandbox import FolderMount
from loopat_jupyter.sandboxes.launcher.ownership import chown_tree
from tests.sandboxes.conftest import LoopatHome, Started, inside

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="about a server that is root")
UID = 64999


def owners(top: Path) -> set[int]:
    return {path.lstat().st_uid for path in (top, *top.rglob("*"))}


def test_a_tree_is_handed_over_whole_and_no_symlink_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").write_text("")
    (top / "link").symlink_to(outside)
    chown_tree(top, UID)
    assert owners(top) == {UID}
    assert outside.stat().st_uid == 0
    (top / "clone/deep").mkdir(parents=True)
    (top / "clone/deep/file").write_text("")
    chown_tree(top, UID)
    assert owners(top) == {UID}
    assert outside.stat().st_uid == 0


async def test_what_the_server_puts_into_the_workdir_is_the_loops_own(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    spec = loopat_home.spec()
    (spec.workdir / "given").write_text("a")
    (spec.workdir / "given").chmod(0o600)
    async with isolated(spec) as sandbox:
        assert await inside(sandbox, "echo b >> given; cat given") == "ab\n"
    assert {spec.workdir.stat().st_uid, spec.home.stat().st_uid} == {UID}


async def test_a_folders_owners_stay_what_they_are_on_disk(
    isolated: Started, loopat_home: LoopatHome
) -> None:
    folder = loopat_home.top / "data"
    folder.mkdir()
    for name, owner in (("mine", 0), ("theirs", 4321)):
        (folder / name).write_text(name)
        (folder / name).chmod(0o644)
        os.chown(folder / name, owner, owner)
    loopat_home.folders = (FolderMount(folder, "data", write=True),)
    async with isolated() as sandbox:
        mine, theirs = (await inside(sandbox, "stat -c %u data/mine data/theirs")).split()
        assert mine == (await inside(sandbox, "id -u")).strip() != theirs
        assert await inside(sandbox, "echo x > data/mine; mkdir data/made; cat data/mine") == "x\n"
        assert "Permission denied" in await inside(sandbox, "echo x > data/theirs")
    assert {p.name: p.stat().st_uid for p in folder.iterdir()} == {
        "mine": 0,
        "theirs": 4321,
        "made": 0,
    }


async def test_a_file_system_without_mapped_owners_is_bound_plainly_and_said(
    isolated: Started, loopat_home: LoopatHome, caplog: pytest.LogCaptureFixture
) -> None:
    loopat_home.folders = (FolderMount(Path("/proc/sys/kernel"), "kernel", write=False),)
    with caplog.at_level(logging.WARNING):
        async with isolated() as sandbox:
            assert "Linux" in await inside(sandbox, "cat kernel/ostype")
    assert "owners of folder kernel cannot be mapped" in caplog.text
