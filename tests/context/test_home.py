"""What a loop is made with: folders that stay in the root, profiles, vaults, repositories."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from loopat_jupyter.context.folders import Folders
from loopat_jupyter.context.home import Home
from loopat_jupyter.context.instructions import Instructions
from loopat_jupyter.loops.errors import (
    InvalidParameter,
    SandboxSpawnFailed,
    UnknownProfile,
    UnknownRepo,
    UnknownVault,
)
from loopat_jupyter.loops.models import LoopRecord, SharedFolder, new_loop_id, now
from loopat_jupyter.loops.ports.engine import Turn
from loopat_jupyter.loops.ports.sandbox import FolderMount
from loopat_jupyter.loops.service import NewLoop


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "data" / "raw").mkdir(parents=True)
    (root / "notes.txt").write_text("a file")
    (root / ".ssh").mkdir()
    (tmp_path / "outside").mkdir()
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "in").symlink_to(root / "data")
    (root / "home" / "loops").mkdir(parents=True)
    return root


@pytest.fixture
def home(root: Path, tmp_path: Path) -> Home:
    return Home.open(tmp_path / "h", Folders(root, private=(root / "home",)))


def draft(**fields) -> NewLoop:
    wanted = {
        "title": "t",
        "metadata": {},
        "profiles": None,
        "vault": None,
        "repo": None,
        "folders": (),
    }
    return NewLoop(new_loop_id(), "ada", **(wanted | fields))


def loops(home: Home) -> list[str]:
    return [entry.name for entry in (home.path / "loops").iterdir()]


async def test_the_home_is_private(home: Home) -> None:
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    one = draft()
    await home.prepare_loop(one)
    assert stat.S_IMODE((home.loop_dir(one.loop_id) / "workdir").stat().st_mode) == 0o700


def test_a_home_that_others_could_read_is_shut_unless_it_is_something_else_too(tmp_path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path in (ours, theirs):
        path.mkdir(mode=0o755)
        (path / "config.json").write_text("{}")
    (theirs / "thesis.tex").write_text("")
    for path in (ours, theirs):
        Home.open(path, Folders(tmp_path))
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o755
    assert stat.S_IMODE((theirs / "loops").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "path",
    ["", ".", "/", "/data", "..", "../outside", "data/../../outside", "nothing", "notes.txt",
     "out", "in", "in/raw", "out/x", ".ssh", "home", "home/loops", "data\0"],
)  # fmt: skip
async def test_a_folder_that_leaves_the_root_or_is_not_there_is_refused(home, path) -> None:
    with pytest.raises(InvalidParameter):
        await home.prepare_loop(draft(folders=(SharedFolder(path, False),)))
    assert loops(home) == []


async def test_a_folder_above_something_private_is_not_given_for_writing(home, root: Path) -> None:
    (root / "data" / "deep" / "run").mkdir(parents=True)
    guarded = Home.open(home.path, Folders(root, private=(root / "data" / "deep" / "run",)))
    with pytest.raises(InvalidParameter, match="without write"):
        await guarded.prepare_loop(draft(folders=(SharedFolder("data", True),)))
    await guarded.prepare_loop(
        draft(folders=(SharedFolder("data", False), SharedFolder("data/raw", True)))
    )


async def test_two_folders_of_one_name_are_refused(home: Home, root: Path) -> None:
    (root / "raw").mkdir()
    with pytest.raises(InvalidParameter, match="raw"):
        await home.prepare_loop(
            draft(folders=(SharedFolder("raw", False), SharedFolder("data/raw", True)))
        )


async def test_a_folder_is_found_again_when_the_sandbox_starts(home: Home, root: Path) -> None:
    loop = LoopRecord(
        "loop_x", "ada", "t", now(), {}, (), "default", None, (SharedFolder("data/raw/", True),)
    )
    assert (await home.spec(loop)).folders == (FolderMount(root / "data" / "raw", "raw", True),)
    (root / "data" / "raw").rmdir()
    (root / "data" / "raw").symlink_to("/etc")
    with pytest.raises(SandboxSpawnFailed, match="data/raw"):
        await home.spec(loop)


async def test_hidden_folders_are_shown_where_the_server_shows_them(root: Path, tmp_path) -> None:
    home = Home.open(tmp_path / "h", Folders(root, allow_hidden=True))
    await home.prepare_loop(draft(folders=(SharedFolder(".ssh", False),)))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"profiles": ("nope",)}, UnknownProfile),
        ({"profiles": ("../loops",)}, UnknownProfile),
        ({"vault": "nope"}, UnknownVault),
        ({"vault": ".."}, UnknownVault),
        ({"repo": "nope"}, UnknownRepo),
        ({"repo": "../profiles"}, UnknownRepo),
    ],
)
async def test_unknown_names_leave_nothing_behind(home: Home, fields, error) -> None:
    with pytest.raises(error):
        await home.prepare_loop(draft(**fields))
    assert loops(home) == []


async def test_defaults_are_the_user_s_own_else_the_common_ones(home: Home) -> None:
    prepared = await home.prepare_loop(draft())
    assert (prepared.profiles, prepared.vault) == ((), "default")
    (home.path / "profiles" / "default").mkdir()
    assert (await home.prepare_loop(draft())).profiles == ("default",)
    (home.path / "profiles" / "ada").mkdir()
    (home.path / "vaults" / "ada").mkdir()
    prepared = await home.prepare_loop(draft())
    assert (prepared.profiles, prepared.vault) == (("ada",), "ada")
    assert (await home.prepare_loop(draft(profiles=()))).profiles == ()


def git(*arguments: str, cwd: Path) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
        cwd=cwd,
        check=True,
        capture_output=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
    )


async def test_a_repo_is_cloned_into_the_loops_workdir(home: Home) -> None:
    repo = home.path / "repos" / "site"
    repo.mkdir()
    git("init", "-q", "-b", "main", cwd=repo)
    (repo / "page.md").write_text("hello")
    git("add", "-A", cwd=repo)
    git("commit", "-qm", "one", cwd=repo)
    one = draft(repo="site")
    await home.prepare_loop(one)
    assert (home.loop_dir(one.loop_id) / "workdir" / "page.md").read_text() == "hello"


async def test_a_repo_that_cannot_be_cloned_leaves_nothing_behind(home: Home) -> None:
    (home.path / "repos" / "empty").mkdir()
    with pytest.raises(UnknownRepo) as refused:
        await home.prepare_loop(draft(repo="empty"))
    assert str(home.path) not in refused.value.message
    assert loops(home) == []


async def test_instructions_hold_the_profiles_and_the_folders_but_no_metadata(home: Home) -> None:
    profile = home.path / "profiles" / "terse"
    profile.mkdir()
    (profile / "AGENTS.md").write_text("Answer in one line.")
    (home.path / "profiles" / "bare").mkdir()
    turn = Turn(
        "turn_1", "loop_1", "ada", "hi", "plan", "default", ("terse", "bare"), (),
        (FolderMount(Path("/x/data"), "data", False),),
    )  # fmt: skip
    text = await Instructions(home.path)(turn)
    assert "Answer in one line." in text
    assert "data (read only)" in text
    assert "plan mode" in text
    assert "/x/" not in text
