"""Files of a hostile workdir: no path leads out of it, and nothing in it blocks the server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from loopat_jupyter.loops.errors import (
    ContentTooLarge,
    DomainError,
    InvalidParameter,
    NotFound,
    PermissionRefused,
    StoreError,
)
from loopat_jupyter.loops.models import LoopRecord, now
from loopat_jupyter.loops.ports.files import UploadPart
from loopat_jupyter.workspace import files as files_module
from loopat_jupyter.workspace import uploads
from loopat_jupyter.workspace.files import WorkspaceFiles
from loopat_jupyter.workspace.safe_path import as_api_errors, quoted_name

ROUNDS = 1000
SECRET = b"of the host"
LOOP = LoopRecord("loop_x", "ada", "t", now(), {}, (), "default", None)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make this")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """The workdir; ``outside`` lies beside its loop, with a secret in it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_bytes(SECRET)
    work = tmp_path / "loop_x" / "workdir"
    work.mkdir(parents=True)
    return work


@pytest.fixture
def files(tmp_path: Path, top: Path) -> Iterator[WorkspaceFiles]:
    made = WorkspaceFiles(lambda loop_id: tmp_path / loop_id, max_size=1 << 20, owner=None)
    yield made
    made.close()


async def get(files: WorkspaceFiles, path: str) -> bytes:
    async with files.open(LOOP, path) as file:
        return b"".join([chunk async for chunk in file.chunks()])


async def put(files: WorkspaceFiles, path: str, data: bytes = b"new") -> None:
    await files.put(LOOP, path, data, None)


async def names(files: WorkspaceFiles, path: str = "") -> list[str]:
    page = await files.list(LOOP, path, limit=100, after=None)
    return [entry.name for entry in page.entries]


def within(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def open_descriptors() -> int:
    return len(within(Path("/proc/self/fd")))


# --------------------------------------------------------------------------- where a path may lead


@pytest.mark.parametrize(
    "path",
    [
        "..", ".", "../outside/f", "a/../../outside/f", "/etc/passwd", "//etc/passwd", "a//b", "a/",
        "a/.", "./a", "a\0b", "x" * 256, "é" * 128, "a/" * 3000 + "b", "/", "a/b/..",
    ],
)  # fmt: skip
async def test_an_impossible_path_is_refused_before_any_file_is_opened(
    files: WorkspaceFiles, top: Path, path: str
) -> None:
    (top / "a").mkdir()
    for ask in (get(files, path), put(files, path), names(files, path)):
        with pytest.raises(InvalidParameter, match="path"):
            await ask
    assert within(top) == ["a"]


@pytest.mark.parametrize("path", ["..\\..\\outside\\f", "%2e%2e/f", "~root", "....", " ", "C:"])
async def test_a_name_that_only_looks_like_a_parent_is_a_name(
    files: WorkspaceFiles, top: Path, path: str
) -> None:
    with pytest.raises(NotFound):
        await get(files, path)
    await put(files, path)
    assert (top / path).read_bytes() == b"new"
    assert await get(files, path) == b"new"


@pytest.mark.parametrize(
    "path",
    [
        "no\u00a0break",
        "Screenshot 9.41\u202fAM.png",
        "ideographic\u3000space",
        "family \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "soft\u00adhyphen",
        "new letter \U0001fae8",
        "e\u0301",
    ],
)
async def test_names_that_people_have_are_taken(
    files: WorkspaceFiles, top: Path, path: str
) -> None:
    await put(files, path)
    assert await names(files) == [path]
    assert await get(files, path) == b"new"


async def test_a_name_with_a_mark_is_kept_where_a_file_has_it(
    files: WorkspaceFiles, top: Path
) -> None:
    (top / "a\u202eb").write_text("old")
    assert await get(files, "a\u202eb") == b"old"
    await put(files, "a\u202eb")
    assert (top / "a\u202eb").read_text() == "new"
    assert "\\u202e" in quoted_name("a\u202eb")


@pytest.mark.parametrize(
    "path", ["line\nbreak", "bell\x07", "\x1b[31m", "a\u202eb", "a\ufffdb", "\x7f"]
)
async def test_a_name_with_deceptive_characters_cannot_be_uploaded(
    files: WorkspaceFiles, top: Path, path: str
) -> None:
    with pytest.raises(InvalidParameter, match="characters"):
        await put(files, path)
    assert within(top) == []
    (top / path).write_bytes(b"by the agent")
    assert await get(files, path) == b"by the agent"


async def test_a_name_that_is_no_utf8_is_listed_and_cannot_be_asked_for(
    files: WorkspaceFiles, top: Path
) -> None:
    (Path(os.fsdecode(bytes(top) + b"/a\xff\xfeb"))).write_bytes(b"x")
    (top / "z").touch()
    page = await files.list(LOOP, "", limit=1, after=None)
    (entry,) = page.entries
    assert (entry.name, entry.path, entry.size) == ("a\ufffd\ufffdb", None, 1)
    assert page.last_id == "a%FF%FEb"
    rest = await files.list(LOOP, "", limit=1, after=page.last_id)
    assert [e.name for e in rest.entries] == ["z"]
    with pytest.raises(NotFound):
        await get(files, "a\ufffd\ufffdb")


async def test_no_symlink_is_followed_neither_on_the_way_nor_at_the_end(
    files: WorkspaceFiles, top: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (top / "dir").symlink_to(outside)
    (top / "file").symlink_to(outside / "f")
    (top / "dangling").symlink_to(outside / "made")
    (top / "inner").mkdir()
    (top / "up").symlink_to("..")
    (top / "self").symlink_to("self")
    (top / "proc").symlink_to("/proc/self/root")
    for path in ("dir/f", "file", "up/uploads", "self", "proc/etc/passwd", "dangling"):
        with pytest.raises(InvalidParameter):
            await get(files, path)
        with pytest.raises(InvalidParameter):
            await put(files, path)
    for path in ("dir", "up", "self", "proc/etc", "file"):
        with pytest.raises(InvalidParameter):
            await names(files, path)
    assert within(outside) == ["f"]
    assert (outside / "f").read_bytes() == SECRET


async def test_the_workdir_itself_may_be_no_symlink(files: WorkspaceFiles, top: Path) -> None:
    top.rmdir()
    top.symlink_to(top.parent.parent / "outside")
    for ask in (get(files, "f"), put(files, "f"), names(files)):
        with pytest.raises(InvalidParameter):
            await ask


SWAP = {
    "directory": """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.symlink(sys.argv[2], "x")
print("ready", flush=True)
while True:
    if libc.renameat2(-100, b"d", -100, b"x", 2) != 0:  # RENAME_EXCHANGE
        sys.exit(os.strerror(ctypes.get_errno()))
""",
    "file": """
import os, sys
print("ready", flush=True)
while True:
    os.symlink(sys.argv[2] + "/f", "x")
    os.rename("x", "f")
    with open("y", "w") as file:
        file.write("inside")
    os.rename("y", "f")
""",
}


@contextlib.contextmanager
def swapping(kind: str, top: Path, outside: Path) -> Iterator[None]:
    """Another process swaps a symlink for a name, and back, as fast as it can."""
    process = subprocess.Popen(
        [sys.executable, "-c", SWAP[kind], kind, str(outside)], stdout=subprocess.PIPE, cwd=top
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        assert process.poll() is None, "it stopped swapping"
    finally:
        process.kill()
        process.communicate()


Attempt = Callable[[WorkspaceFiles], "asyncio.Future[object]"]


@pytest.mark.parametrize("kind", ["directory", "file"])
async def test_a_thousand_rounds_against_a_process_that_swaps_in_symlinks(
    files: WorkspaceFiles, top: Path, tmp_path: Path, kind: str
) -> None:
    outside = tmp_path / "outside"
    if kind == "directory":
        (top / "d").mkdir()
        (top / "d" / "f").write_bytes(b"inside")
        path = "d/f"
    else:
        (top / "f").write_bytes(b"inside")
        path = "f"
    before = open_descriptors()
    seen: dict[str, int] = {}
    with swapping(kind, top, outside):
        for _ in range(ROUNDS):
            for ask in (get(files, path), put(files, path), names(files, path.rpartition("/")[0])):
                try:
                    found = await ask
                except DomainError as error:
                    seen[error.code] = seen.get(error.code, 0) + 1
                else:
                    assert found in (None, b"inside", b"new") or SECRET not in bytes(
                        str(found), "utf-8"
                    )
                    seen["fine"] = seen.get("fine", 0) + 1
    assert within(outside) == ["f"]
    assert (outside / "f").read_bytes() == SECRET
    assert open_descriptors() == before
    assert seen["fine"] > 0, seen
    assert seen["invalid_parameter"] > 0, f"the race was never lost: {seen}"
    assert set(seen) <= {"fine", "invalid_parameter", "not_found"}, seen


async def test_the_file_that_is_opened_is_the_one_that_was_checked(
    files: WorkspaceFiles, top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "f").write_bytes(b"inside")
    (top / "x").symlink_to(tmp_path / "outside" / "f")
    real = stat.S_ISREG

    def swapped_meanwhile(mode: int) -> bool:
        (top / "x").rename(top / "f")
        return real(mode)

    monkeypatch.setattr(stat, "S_ISREG", swapped_meanwhile)
    assert await get(files, "f") == b"inside"


# --------------------------------------------------------------------------- what is no file


async def test_pipes_sockets_and_directories_are_not_opened(
    files: WorkspaceFiles, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(top / "pipe")
    (top / "dir").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(top)  # a socket's path is short
        listening.bind("socket")
        async with asyncio.timeout(10):
            for name in ("pipe", "socket", "dir"):
                with pytest.raises(InvalidParameter):
                    await get(files, name)
                with pytest.raises(InvalidParameter):
                    await put(files, name)
            with pytest.raises(InvalidParameter):
                await names(files, "pipe")
    page = await files.list(LOOP, "", limit=10, after=None)
    assert [(e.type, e.name) for e in page.entries] == [
        ("directory", "dir"), ("other", "pipe"), ("other", "socket"),
    ]  # fmt: skip


@as_root
async def test_a_device_is_not_opened(files: WorkspaceFiles, top: Path) -> None:
    os.mknod(top / "zero", 0o20666, os.makedev(1, 5))
    with pytest.raises(InvalidParameter, match="no regular file"):
        await get(files, "zero")


@as_root
async def test_a_hard_link_to_another_users_file_is_not_served(
    files: WorkspaceFiles, top: Path, tmp_path: Path
) -> None:
    os.chown(top, 64999, 64999)
    os.link(tmp_path / "outside" / "f", top / "stolen")
    with pytest.raises(PermissionRefused, match="does not belong to the loop"):
        await get(files, "stolen")
    (top / "own").write_bytes(b"mine")
    os.chown(top / "own", 64999, 64999)
    os.link(top / "own", top / "again")
    assert await get(files, "again") == b"mine"


async def test_a_file_is_replaced_and_never_written_into(
    files: WorkspaceFiles, top: Path, tmp_path: Path
) -> None:
    os.link(tmp_path / "outside" / "f", top / "f")
    await put(files, "f")
    assert (top / "f").read_bytes() == b"new"
    assert (tmp_path / "outside" / "f").read_bytes() == SECRET


async def test_a_lease_on_a_file_does_not_block_the_server(
    files: WorkspaceFiles, top: Path
) -> None:
    (top / "f").write_bytes(b"x")
    heard = signal.signal(signal.SIGIO, signal.SIG_IGN)  # how the holder is asked to give it up
    fd = os.open(top / "f", os.O_RDWR)
    try:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            pytest.skip(f"this file system has no leases: {error}")
        async with asyncio.timeout(10):
            with pytest.raises(PermissionRefused, match="holds"):
                await get(files, "f")
    finally:
        os.close(fd)
        signal.signal(signal.SIGIO, heard)


# --------------------------------------------------------------------------- sizes


async def test_a_file_that_grows_or_shrinks_while_it_is_read(
    files: WorkspaceFiles, top: Path
) -> None:
    path = top / "f"
    path.write_bytes(b"x" * (files_module.CHUNK * 2))
    async with files.open(LOOP, "f") as file:
        chunks = file.chunks()
        got = await anext(chunks)
        with path.open("ab") as growing:
            growing.write(b"y" * files_module.CHUNK)
        got += b"".join([chunk async for chunk in chunks])
    assert got == b"x" * file.size
    async with files.open(LOOP, "f") as file:
        chunks = file.chunks()
        await anext(chunks)
        os.truncate(path, 10)
        assert [chunk async for chunk in chunks] == []


async def test_a_sparse_file_over_the_limit_is_not_begun(files: WorkspaceFiles, top: Path) -> None:
    with (top / "f").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ContentTooLarge, match="1099511627776"):
        await get(files, "f")


async def test_a_huge_directory_is_scanned_to_a_limit(
    files: WorkspaceFiles, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "SCAN_LIMIT", 50)
    for n in range(60):
        (top / f"{n}").touch()
    page = await files.list(LOOP, "", limit=100, after=None)
    assert (len(page.entries), page.truncated, page.has_more) == (50, True, False)


async def test_a_time_out_of_range_is_null(files: WorkspaceFiles, top: Path) -> None:
    (top / "f").touch()
    os.utime(top / "f", ns=(0, (1 << 62)))
    (entry,) = (await files.list(LOOP, "", limit=1, after=None)).entries
    assert entry.modified is None or entry.modified.endswith("Z")


# --------------------------------------------------------------------------- uploads


async def test_unfinished_uploads_are_few_and_do_not_stay(
    files: WorkspaceFiles, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = top.parent / "uploads"
    part = UploadPart("u0", 0, 10)
    await files.put(LOOP, "f", b"old", part)
    for age, name in enumerate(within(place)):
        os.utime(place / name, (age, age))
    await files.put(LOOP, "f", b"1", replace(part, upload="u1"))
    assert len(within(place)) == 1, "what is a day old is gone"
    for n in range(2, 2 + uploads.OPEN * 2):
        await files.put(LOOP, "f", b"1", replace(part, upload=f"u{n}"))
    assert len(within(place)) == uploads.OPEN
    assert place.stat().st_mode & 0o777 == 0o700
    await files.remove_loop(LOOP)
    assert within(place) == []
    assert within(top) == []


async def test_uploads_of_one_file_at_once_leave_one_of_them_whole(
    files: WorkspaceFiles, top: Path
) -> None:
    async def one(n: int) -> None:
        data = bytes([n]) * 200_000
        for offset in range(0, len(data), 50_000):
            piece = data[offset : offset + 50_000]
            await files.put(LOOP, "f", piece, UploadPart(f"u{n}", offset, len(data)))

    await asyncio.gather(*(one(n) for n in range(6)))
    found = (top / "f").read_bytes()
    assert found == found[:1] * 200_000


async def test_a_failed_upload_leaves_nothing(
    files: WorkspaceFiles, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "old").write_bytes(b"old")

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads, "_write", full)
    with pytest.raises(StoreError, match="disk is full"):
        await put(files, "old")
    assert within(top.parent / "uploads") == []
    assert (top / "old").read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.EACCES, errno.EXDEV])
def test_no_message_names_a_path_of_the_host(number: int) -> None:
    host = "/srv/secret/place"
    with pytest.raises(DomainError) as caught, as_api_errors("a/b"):
        raise OSError(number, os.strerror(number), host)
    assert host not in caught.value.message


async def test_a_reader_that_is_cancelled_while_it_opens_leaves_no_descriptor(
    files: WorkspaceFiles, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / "f").write_bytes(b"x")
    began, go_on = threading.Event(), threading.Event()
    real = files_module.open_file

    def slow(*arguments: object) -> object:
        began.set()
        go_on.wait(10)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(files_module, "open_file", slow)
    before = open_descriptors()
    reading = asyncio.ensure_future(get(files, "f"))
    await asyncio.to_thread(began.wait, 10)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    go_on.set()
    files.close()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))  # the opening itself
    await asyncio.sleep(0)
    assert open_descriptors() == before
