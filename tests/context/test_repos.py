"""Hostile repositories: cloning one on the host executes nothing that it configures.

Each exploit is first shown to work with plain git, so that a test of one that works nowhere cannot
pass.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from loopat_jupyter.context.repos import clone
from loopat_jupyter.loops.errors import UnknownRepo

Exploit = Callable[[Path, str], None]
PLAIN = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def git(where: Path, *arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
        cwd=where, check=check, capture_output=True, text=True, env=PLAIN, timeout=30,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = tmp_path / "repos" / "site"
    repo.mkdir(parents=True)
    git(repo, "init", "-q", "-b", "main")
    (repo / "page.md").write_text("hello")
    (repo / ".gitattributes").write_text("*.md filter=evil diff=evil merge=evil\n")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "one")
    return repo


def script(repo: Path, name: str, command: str, then: str = "cat") -> Path:
    """A program that runs ``command``, and then what git expects of it."""
    path = repo / ".git" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{command}\n{then}\n")
    path.chmod(0o755)
    return path


def configure(*keys: str, then: str = "cat") -> Exploit:
    def exploit(repo: Path, command: str) -> None:
        for key in keys:
            git(repo, "config", key, str(script(repo, "evil", command, then)))

    return exploit


HOOKS = (
    *("post-checkout", "post-index-change", "reference-transaction", "post-merge"),
    *("pre-auto-gc", "post-rewrite", "fsmonitor-watchman", "post-upload-pack"),
)


def hooks(repo: Path, command: str) -> None:
    for name in HOOKS:
        script(repo, f"hooks/{name}", command)


def hooks_elsewhere(repo: Path, command: str) -> None:
    hooks(repo, command)
    git(repo, "config", "core.hooksPath", str(repo / ".git/hooks"))


def included(repo: Path, command: str) -> None:
    """Configuration in another file, found by ``include``."""
    evil = script(repo, "evil", command)
    (repo / ".git/more").write_text(f'[core]\n\tfsmonitor = {evil}\n[alias]\n\tx = "!{evil}"\n')
    git(repo, "config", "include.path", "more")


def promised(repo: Path, command: str) -> None:
    """An object is missing, and the remote that promised it is a command."""
    evil = script(repo, "evil", command, "exit 1")
    git(repo, "tag", "-am", "t", "annotated", "HEAD")
    missing = git(repo, "rev-parse", "HEAD:page.md")
    (repo / ".git/objects" / missing[:2] / missing[2:]).unlink()
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "evil",
        "remote.evil.promisor": "true",
        "remote.evil.url": f"ext::{evil}",
        "remote.evil.uploadpack": str(evil),
        "protocol.ext.allow": "always",
        "uploadpack.allowAnySHA1InWant": "true",
    }.items():
        git(repo, "config", key, value)


def modules(repo: Path, command: str) -> None:
    """A submodule whose address is a command."""
    evil = script(repo, "evil", command, "exit 1")
    git(repo, "config", "protocol.ext.allow", "always")
    git(repo, "config", "submodule.recurse", "true")
    (repo / ".gitmodules").write_text(f'[submodule "m"]\n\tpath = m\n\turl = ext::{evil}\n')
    head = git(repo, "rev-parse", "HEAD")
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{head},m")
    git(repo, "add", ".gitmodules")
    git(repo, "commit", "-qm", "module")


EXPLOITS: dict[str, tuple[Exploit, tuple[str, ...]]] = {
    "hooks": (hooks, ("checkout", "-q", "-b", "other")),
    "hooks-elsewhere": (hooks_elsewhere, ("checkout", "-q", "-b", "other")),
    "fsmonitor": (configure("core.fsmonitor"), ("status",)),
    "filters": (
        configure("filter.evil.clean", "filter.evil.smudge"),
        ("checkout-index", "-f", "page.md"),
    ),
    "filter-process": (configure("filter.evil.process"), ("checkout-index", "-f", "page.md")),
    "diff-driver": (configure("diff.external", "diff.evil.command"), ("diff", "HEAD")),
    "textconv": (configure("diff.evil.textconv"), ("show", "HEAD")),
    "ssh": (configure("core.sshCommand", then="exit 1"), ("fetch", "ssh://nowhere.invalid/x")),
    "git-proxy": (configure("core.gitProxy", then="exit 1"), ("fetch", "git://nowhere.invalid/x")),
    "credentials": (configure("credential.helper", "core.askPass"), ("credential", "fill")),
    "editor": (configure("core.editor", "sequence.editor"), ("commit", "--amend")),
    "signing": (configure("gpg.program"), ("commit", "-S", "--allow-empty", "-m", "x")),
    "alternates": (configure("core.alternateRefsCommand"), ("fetch", "-q", ".")),
    "include": (included, ("status",)),
    "promisor": (promised, ("cat-file", "-p", "HEAD:page.md")),
    "submodules": (modules, ()),
    "upload-pack": (configure("uploadpack.packObjectsHook", "remote.origin.uploadpack"), ()),
}
"""What prepares the repository, and the ordinary git command that runs the exploit; none where git
itself does not read this from a repository."""


def prepare_exploit(repo: Path, exploit: str, marker: Path) -> None:
    """Prepare the exploit, and show that it works with plain git."""
    prepare, command = EXPLOITS[exploit]
    prepare(repo, f"echo ran >> {marker}")
    if exploit == "alternates":
        other = repo.parent / "other.git"
        git(repo.parent, "clone", "-q", "--bare", str(repo), str(other))
        (repo / ".git/objects/info/alternates").write_text(f"{other}/objects\n")
        git(repo, "remote", "add", "o", str(other))
        (repo / "more").write_text("more")
        command = ("receive-pack", "--advertise-refs", ".")
    if command:
        (repo / "page.md").write_text("changed")
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *command],
            cwd=repo,
            check=False,
            capture_output=True,
            input=b"protocol=https\nhost=nowhere.invalid\n\n",
            env={**PLAIN, "GIT_TERMINAL_PROMPT": "0"},
            timeout=30,
        )
        assert marker.exists(), "the exploit does not work with this git"
        marker.unlink()


@pytest.mark.parametrize("exploit", EXPLOITS)
async def test_nothing_of_a_hostile_repository_runs(
    tmp_path: Path, repo: Path, exploit: str
) -> None:
    marker = tmp_path / "marker"
    prepare_exploit(repo, exploit, marker)
    workdir = tmp_path / "loop" / "workdir"
    workdir.parent.mkdir()
    if exploit == "promisor":
        with pytest.raises(UnknownRepo, match="cannot be cloned"):
            await clone(repo, workdir)
    else:
        await clone(repo, workdir)
        assert (workdir / "page.md").read_text() == "hello"
    assert not marker.exists()
    if workdir.exists():  # and the clone cannot run it either
        kept = (workdir / ".git/config").read_text()
        assert "evil" not in kept
        assert list((workdir / ".git").glob("hooks/*")) == []


async def test_a_clone_refers_to_no_other_directory(tmp_path: Path, repo: Path) -> None:
    other = tmp_path / "other.git"
    git(tmp_path, "clone", "-q", "--bare", str(repo), str(other))
    for path in (repo / ".git/objects").glob("[0-9a-f]*/*"):
        path.unlink()
    (repo / ".git/objects/info").mkdir(exist_ok=True)
    (repo / ".git/objects/info/alternates").write_text(f"{other}/objects\n")
    workdir = tmp_path / "workdir"
    await clone(repo, workdir)
    other.rename(tmp_path / "gone")
    assert git(workdir, "fsck", "--full") == ""
    assert git(workdir, "show", "HEAD:page.md") == "hello"
    assert not (workdir / ".git/objects/info/alternates").exists()


async def test_objects_that_are_symlinks_copy_no_other_file(tmp_path: Path, repo: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("planted")
    (repo / ".git/objects/evil").symlink_to(secret)
    await clone(repo, tmp_path / "workdir")
    copied = [p for p in (tmp_path / "workdir").rglob("*") if p.is_file() and not p.is_symlink()]
    assert not [path for path in copied if b"planted" in path.read_bytes()]


async def test_symlinks_are_checked_out_as_such_and_not_followed(
    tmp_path: Path, repo: Path
) -> None:
    (repo / "out").symlink_to(tmp_path)
    git(repo, "add", "out")
    git(repo, "commit", "-qm", "link")
    workdir = tmp_path / "workdir"
    await clone(repo, workdir)
    assert (workdir / "out").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["repos", "workdir"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_repo_that_another_user_owns_can_be_cloned(tmp_path: Path, repo: Path) -> None:
    for path in (repo, *repo.rglob("*")):
        os.chown(path, 61_234, 61_234, follow_symlinks=False)
    await clone(repo, tmp_path / "workdir")
    assert (tmp_path / "workdir" / "page.md").read_text() == "hello"


async def test_the_error_holds_gits_reason_and_not_its_advice(tmp_path: Path) -> None:
    (tmp_path / "repos" / "none").mkdir(parents=True)
    with pytest.raises(UnknownRepo) as refused:
        await clone(tmp_path / "repos" / "none", tmp_path / "workdir")
    assert "does not exist" in refused.value.message
    assert str(tmp_path) not in refused.value.message
